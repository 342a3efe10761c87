"""Counts over a finished file."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from mgie_lit.prepare.expressive.flags import MEANINGS
from mgie_lit.prepare.expressive.report import make_report, show_report, write_report
from mgie_lit.prepare.expressive.settings import Settings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Twenty rows of 1 to 20 words; the first five repeat themselves, and the first is a copy, too."""
    rows = [
        {
            "id": f"r{number}",
            "instruction": "make it [red]",
            "answer": "word " * (number + 1),
            "cleaned": "word " * (number + 1),
            "expressive_instruction": "word " * (number + 1),
            "flags": [*(["repetition"] if number < 5 else []), *(["copy"] if number == 0 else [])],
            "settings": "hash",
        }
        for number in range(20)
    ]
    file = tmp_path / "words.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_numbers(path: Path) -> None:
    settings = Settings({"a": 1})
    report = make_report(path, settings)
    assert (report["num_rows"], report["num_unflagged"], report["settings"]) == (20, 15, settings.hash)
    words = report["words"]["answer"]
    assert (words["min"], words["median"], words["max"], words["mean"]) == (1, 10.5, 20, 10.5)
    assert report["words"]["instruction"]["max"] == 3
    assert set(report["flags"]) == set(MEANINGS)
    assert report["flags"]["repetition"] == {"count": 5, "share": 0.25}
    assert report["flags"]["empty"] == {"count": 0, "share": 0.0}


def test_examples(path: Path) -> None:
    examples = make_report(path, Settings({}))["examples"]
    assert set(examples) == {"unflagged", "repetition", "copy"}
    assert len({row["id"] for row in examples["unflagged"]}) == 8
    assert all(not row["flags"] for row in examples["unflagged"])
    assert [row["id"] for row in examples["repetition"]] == ["r0", "r1", "r2"]


def test_report_is_written_and_shown(path: Path, tmp_path: Path) -> None:
    report = make_report(path, Settings({}))
    write_report(report, tmp_path / "report.json")
    assert json.loads((tmp_path / "report.json").read_text()) == report
    console = Console(file=io.StringIO(), width=200)
    show_report(report, console)
    shown = console.file.getvalue()  # type: ignore[attr-defined]
    assert "20 rows" in shown
    assert "make it [red]" in shown, "brackets are no markup"
    assert "75.0%" in shown
    assert "the instruction again" in shown
    assert "refusal" not in shown, "flags without rows are left out"
