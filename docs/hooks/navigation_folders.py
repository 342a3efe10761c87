"""A name in the navigation that ends in "/" stands for the pages of that folder, in the order of their names."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.files import Files


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Put pages in place of folders."""
    pages = [file.src_uri for file in files.documentation_pages()]
    filled = _filled(config.nav, pages)
    assert isinstance(filled, list)
    config.nav = filled
    return files


def _filled(entry: object, pages: list[str]) -> object:
    if isinstance(entry, list):
        return [_filled(one, pages) for one in entry]
    if isinstance(entry, dict):
        return {title: _filled(one, pages) for title, one in entry.items()}
    if not str(entry).endswith("/"):
        return entry
    found = [page for page in pages if page.startswith(entry) and "/" not in page.removeprefix(entry)]
    return sorted(found, key=lambda page: (not page.endswith("/index.md"), page.removesuffix(".md")))
