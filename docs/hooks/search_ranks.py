"""What the search shows first: guides before the reference of the code, which names every word somewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.structure.pages import Page

RANKS = {  # by the start of a page's place; the first that fits counts
    "reference/api/": 0.1,
    "reference/": 1.0,
    "changelog.md": 0.5,
    "benchmarks/": 1.0,
    "decisions/": 1.0,
    "": 2.0,  # guides
}


def on_page_markdown(markdown: str, *, page: Page, **_: object) -> str:
    """Give a page its weight in the search, unless its head has one."""
    page.meta.setdefault("search", {"boost": rank_of(page.file.src_uri)})
    return markdown


def rank_of(src_uri: str) -> float:
    """By how much the hits of a page count more than usual."""
    return next(rank for start, rank in RANKS.items() if src_uri.startswith(start))
