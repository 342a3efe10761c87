"""Every relative link and anchor of the pages leads somewhere, on the site and in the repository alike."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path.relative_to(ROOT)
    for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), ROOT / "notebooks/README.md", ROOT / "data/README.md"]
)
FENCED = re.compile(r"^(```+)[^\n]*\n.*?^\1[ \t]*$", re.MULTILINE | re.DOTALL)
LINK = re.compile(r"\]\(([^)\s]*)\)|<(?:img|a)[^>]* (?:src|href)=\"([^\"]*)\"")


@cache
def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return FENCED.sub("", (ROOT / page).read_text(encoding="utf-8"))


@cache
def anchors(page: Path) -> frozenset[str]:
    """What GitHub and the site call the headings of a page, and anchors set by hand."""
    headings = re.findall(r"^#+ (.+?)\s*$", prose(page), re.MULTILINE)
    plain = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", heading).lower() for heading in headings]
    slugs = [re.sub(r"[^\w\- ]", "", heading).replace(" ", "-") for heading in plain]
    by_hand = re.findall(r"<a id=\"([^\"]+)\">", prose(page))
    return frozenset([*slugs, *by_hand])


def faults(page: Path) -> list[str]:
    """Links of a page that lead nowhere."""
    found = []
    for match in LINK.finditer(re.sub(r"`[^`\n]*`", "", prose(page))):
        link = match[1] or match[2] or ""
        path, _, anchor = link.partition("#")
        if re.match(r"[a-z]+:", link):
            continue
        target = ((ROOT / page).parent / path).resolve() if path else ROOT / page
        if not target.exists():
            found.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target.relative_to(ROOT)):
            found.append(f"{link}: no such heading")
    return found


def test_the_search_finds_pages_and_links() -> None:
    assert len(PAGES) >= 30
    assert sum(len(LINK.findall(prose(page))) for page in PAGES) >= 100
    assert "magicbrush" in anchors(Path("docs/datasets.md"))


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_lead_somewhere(page: Path) -> None:
    assert faults(page) == []


def test_pages_that_messages_and_comments_name_are_there() -> None:
    """Messages to users end in places like ``docs/datasets.md#gier``."""
    sources = [
        *(ROOT / "mgie_lit").rglob("*.py"),
        *(ROOT / "conf").rglob("*.yaml"),
        *(ROOT / "benchmarks").rglob("*.py"),
    ]
    named = {
        match
        for path in sources
        for match in re.findall(r"\b(docs/[\w/-]+\.md)(?:#([\w-]+))?", path.read_text("utf-8"))
    }
    assert len(named) >= 20
    wrong = [
        f"{page}#{anchor}"
        for page, anchor in sorted(named)
        if not (ROOT / page).is_file() or (anchor and anchor not in anchors(Path(page)))
    ]
    assert wrong == []
