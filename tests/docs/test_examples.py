"""Examples with a prompt (``>>>``) run wherever they stand: in docstrings by pytest itself, in pages here."""

from __future__ import annotations

import doctest
import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *sorted(ROOT.glob("docs/**/*.md"))]


def test_docstrings_are_searched_for_examples() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert "--doctest-modules" in options["addopts"]
    assert "mgie_lit" in options["testpaths"]
    with_examples = [path for path in (ROOT / "mgie_lit").rglob("*.py") if ">>> " in path.read_text(encoding="utf-8")]
    assert len(with_examples) >= 40


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_examples_of_pages_hold(page: Path) -> None:
    text = re.sub(r"^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE)  # the end of a block is no output
    test = doctest.DocTestParser().get_doctest(text, {}, page.name, str(page), 0)
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed == 0
