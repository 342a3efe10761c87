"""The notebooks as pages: text as it is, code in blocks, and what it printed and drew where a notebook holds that."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files

ROOT = Path(__file__).resolve().parents[2]
NOTEBOOKS = ROOT / "notebooks"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add a page for each notebook, and one that leads to them."""
    index = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    files.append(File.generated(config, "tutorials/index.md", content=index))
    for path in sorted(NOTEBOOKS.glob("*.ipynb")):
        pictures: dict[str, bytes] = {}
        files.append(File.generated(config, f"tutorials/{path.stem}.md", content=page_of(path, pictures)))
        for name, data in pictures.items():
            files.append(File.generated(config, f"tutorials/{name}", content=data))
    return files


def page_of(path: Path, pictures: dict[str, bytes]) -> str:
    """A notebook as Markdown.

    Args:
        path: The ``.ipynb`` file.
        pictures: Gets the PNG files that the page shows, by their names.

    Returns:
        The page.
    """
    blocks: list[str] = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"]).strip()
        if cell["cell_type"] == "markdown":
            blocks.append(source)
        elif cell["cell_type"] == "code" and source:
            blocks.append(f"```python\n{source}\n```")
            blocks += _outputs(cell.get("outputs", []), path.stem, pictures)
    return "\n\n".join(blocks) + "\n"


def _outputs(outputs: list[dict[str, Any]], stem: str, pictures: dict[str, bytes]) -> Iterator[str]:
    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            name = f"{stem}-{len(pictures) + 1}.png"
            pictures[name] = base64.b64decode("".join(data["image/png"]))
            yield f"![]({name})"
        elif text := "".join(output.get("text", data.get("text/plain", ""))).rstrip():
            yield f"```text\n{text}\n```"
