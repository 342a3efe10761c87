"""README, CONTRIBUTING and CHANGELOG as pages of the site, and links from pages to files of the repository.

A page is written once, for readers of the repository. Its links are relative to its file there; on the site those that
lead to another page are turned to that page, and those to other files to a copy of the file, as text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mkdocs.structure.files import File

if TYPE_CHECKING:
    from collections.abc import Callable

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
DOCS, NOTEBOOKS, TUTORIALS, COPIES = "docs/", "notebooks/", "tutorials/", "files/"
_FENCED = re.compile(r"^(```+)[^\n]*\n.*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(\]\()([^)\s#]+)(#[^)\s]*)?(\))")
_SCHEME = re.compile(r"[a-z]+:")


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the pages that lie outside ``docs/``."""
    for origin, page in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / origin).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn the links of a page to where they lead on the site."""
    origin = origin_of(page.file.src_uri)
    if origin is None:
        return markdown

    def turned(match: re.Match[str]) -> str:
        before, link, anchor, after = match.groups()
        target = posixpath.normpath(posixpath.join(posixpath.dirname(origin), link))
        if _SCHEME.match(link) or not (ROOT / target).is_file():
            return match.group()  # elsewhere, or nowhere: then MkDocs says so
        place = place_of(target)
        if place.startswith(COPIES) and files.get_file_from_path(place) is None:
            files.append(File.generated(config, place, content=(ROOT / target).read_bytes()))
        path = posixpath.relpath(place, posixpath.dirname(page.file.src_uri) or ".")
        return f"{before}{path}{anchor or ''}{after}"

    return outside_fences(markdown, lambda text: _LINK.sub(turned, text))


def origin_of(src_uri: str) -> str | None:
    """The file of the repository that a page was made of; None of a generated one."""
    for origin, page in PAGES.items():
        if page == src_uri:
            return origin
    if src_uri.startswith(TUTORIALS):
        notebook = NOTEBOOKS + src_uri.removeprefix(TUTORIALS).removesuffix(".md") + ".ipynb"
        return notebook if (ROOT / notebook).is_file() else NOTEBOOKS + "README.md"
    return DOCS + src_uri if (ROOT / DOCS / src_uri).is_file() else None


def place_of(target: str) -> str:
    """Where a file of the repository is on the site: a page, a file of ``docs/``, or a copy as text."""
    if target in PAGES:
        return PAGES[target]
    if target.startswith(DOCS):
        return target.removeprefix(DOCS)
    if target == NOTEBOOKS + "README.md":
        return TUTORIALS + "index.md"
    if target.startswith(NOTEBOOKS) and target.endswith(".ipynb"):
        return TUTORIALS + Path(target).stem + ".md"
    return f"{COPIES}{target}.txt"


def outside_fences(markdown: str, change: Callable[[str], str]) -> str:
    """Apply ``change`` to what is not a fenced block."""
    parts: list[str] = []
    end = 0
    for fence in _FENCED.finditer(markdown):
        parts += [change(markdown[end : fence.start()]), fence.group()]
        end = fence.end()
    return "".join([*parts, change(markdown[end:])])
