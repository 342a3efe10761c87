from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
from rich.console import Console

from mgie_lit.prepare.check.findings import SCHEMA, Finding
from mgie_lit.prepare.check.report import summary, write_findings


def drawn(findings: list[Finding]) -> str:
    console = Console(width=110)
    with console.capture() as capture:
        console.print(summary(findings, {"train": 12, "test": 5}))
    return capture.get()


def test_nothing_found() -> None:
    assert drawn([]) == "12 train, 5 test examples: no findings\n"


def test_counts_by_kind_and_split_the_worst_first() -> None:
    some = [Finding(f"row-{number}", "train", "near_leak", "alike") for number in range(7)]
    text = drawn([*some, Finding("a", "train", "leak", "why"), Finding("b", "test", "unreadable", "broken")])
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in text.splitlines() if line.startswith("│")]
    assert rows[0] == ["error", "leak", "1", "", "a: why"]
    assert rows[1] == ["error", "unreadable", "", "1", "b: broken"]
    assert rows[2] == ["info", "near_leak", "7", "", "row-0: alike"]
    assert len(rows) == 5, "three examples of the seven"


def test_data_are_no_markup_and_do_not_reach_the_terminal() -> None:
    text = drawn([Finding("a", "train", "absurd_text", "[red]\x1b[2J[/red]")])
    assert "[red]" in text
    assert "\x1b[2J" not in text


def test_long_details_are_cut() -> None:
    assert "..." in drawn([Finding("a", "train", "unreadable", "x" * 500)])


def test_findings_are_written_whole(tmp_path: Path) -> None:
    path = tmp_path / "new" / "findings.parquet"
    write_findings([Finding("a", "train", "unreadable", "x" * 500, "a.png")], path)
    table = pq.read_table(path)
    assert table.schema.equals(SCHEMA)
    assert table["detail"][0].as_py() == "x" * 500
