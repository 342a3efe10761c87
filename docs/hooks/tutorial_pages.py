"""The notebooks as pages: text as it is, code in blocks, and below it what it printed and drew.

Notebooks are stored without outputs. With `EXECUTE` in the environment they are run for the site.
"""

from __future__ import annotations

import base64
import html
import os
import re
import subprocess
import sys
import tempfile
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import nbformat
from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from nbformat import NotebookNode

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"
EXECUTE = "EXECUTE_NOTEBOOKS"
CELL_TIMEOUT = 600  # seconds
_SHELL = re.compile(r"%%(?:bash|sh)[^\n]*\n")
_TERMINAL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[^\n]*\r(?!\n)")  # colours, and what a progress bar has written over
_FOLDER = re.compile(r"/\S*/mgie-docs-\w+")  # of the run, which says nothing to a reader
_STYLE = re.compile(r"<style.*?</style>", re.DOTALL)


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and one that leads to them."""
    index = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "tutorials/index.md", content=index))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        if os.environ.get(EXECUTE):
            execute(notebook)
        pictures: dict[str, bytes] = {}
        text = page_of(notebook, path.stem, pictures)
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=text))
        for name, data in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=data))
    return files


def execute(notebook: NotebookNode) -> None:
    """Run a notebook's cells in a folder that is removed afterwards; it holds its outputs then.

    Args:
        notebook: Changed in place.

    Raises:
        nbclient.exceptions.CellExecutionError: A cell fails.
    """
    from nbclient import NotebookClient

    with tempfile.TemporaryDirectory(prefix="mgie-docs-") as folder:
        environment = os.environ | {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",  # the command `mgie`
            "PYTHONPATH": str(ROOT),
            "TMPDIR": folder,
        }
        client = NotebookClient(notebook, timeout=CELL_TIMEOUT, resources={"metadata": {"path": folder}})
        client.execute(env=environment, stderr=subprocess.DEVNULL)


def page_of(notebook: NotebookNode, stem: str, pictures: dict[str, bytes]) -> str:
    """A notebook as Markdown.

    Args:
        notebook: With or without outputs.
        stem: What names of pictures begin with.
        pictures: Gets the PNG files that the page shows, by their names.

    Returns:
        The page.
    """
    blocks: list[str] = []
    for cell in notebook.cells:
        source = cell.source.strip()
        if cell.cell_type == "markdown":
            blocks.append(source)
        elif cell.cell_type == "code" and source:
            language = "bash" if _SHELL.match(source) else "python"
            blocks.append(f"```{language}\n{_SHELL.sub('', source)}\n```")
            blocks += _shown(cell.outputs, stem, pictures)
    return "\n\n".join(blocks) + "\n"


def _shown(outputs: Sequence[NotebookNode], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for name, same in groupby(outputs, lambda output: output.get("name")):  # a program's output comes in pieces
        if name == "stderr":
            continue
        if name is not None:
            yield from _printed("".join(output.text for output in same))
            continue
        for output in same:
            yield from _displayed(output.get("data", {}), stem, pictures)


def _displayed(data: Mapping[str, str], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    if "image/png" in data:
        name = f"{stem}-{len(pictures) + 1}.png"
        pictures[name] = base64.b64decode(data["image/png"])
        yield f"![Output of the cell above]({name})"
    elif "text/html" in data:  # without blank lines, at which Markdown would take over again
        lines = (line for line in _STYLE.sub("", data["text/html"]).splitlines() if line.strip())
        yield '<div class="output">\n' + "\n".join(lines) + "\n</div>"
    elif "text/markdown" in data:
        yield data["text/markdown"]
    else:
        yield from _printed(data.get("text/plain", ""))


def _printed(text: str) -> Iterator[str]:
    text = _FOLDER.sub("", _TERMINAL.sub("", text)).strip("\n")
    if text:
        yield f'<pre class="output">{html.escape(text)}</pre>'.replace("\n\n", "\n&#8203;\n")
