from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from mgie_lit.report.export import as_markdown, write_csv
from mgie_lit.report.tables import Cell, Table, TableRow

if TYPE_CHECKING:
    from pathlib import Path

TABLE = Table(
    "photo_edits, test",
    ["system", "L1", "n"],
    [
        TableRow("mine", [Cell("0.1", "0.0 to 0.2", mark="best"), Cell("4")]),
        TableRow("a|b <script>", [Cell("0.2", mark="tie"), Cell("4")]),
        TableRow("paper", [Cell("0.3", "published [1]", "worse"), Cell("-")], "published"),
    ],
    [{"system": "mine", "mean": 0.1234567890123}, {"system": "paper", "mean": 0.3, "mark": "trust 1"}],
    "A note.",
)


def test_markdown_marks_what_the_page_marks() -> None:
    text = as_markdown("Report: x", {"Systems": [TABLE], "Trials": []})
    assert text.splitlines() == [
        "# Report: x",
        "",
        "## Systems",
        "",
        "### photo\\_edits, test",
        "",
        "| system | L1 | n |",
        "| --- | ---: | ---: |",
        "| mine | **0.1** (0.0 to 0.2) | 4 |",
        "| a\\|b &lt;script&gt; | ≈ 0.2 | 4 |",
        "| *paper* | ✗ 0.3 (published \\[1\\]) | - |",
        "",
        "A note.",
    ]


def test_csv_has_full_precision(tmp_path: Path) -> None:
    write_csv(tmp_path / "new", {"Paired differences": [TABLE], "Trials": []})
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["paired_differences.csv"]
    table = pd.read_csv(tmp_path / "new" / "paired_differences.csv")
    assert table["mean"].tolist() == [0.1234567890123, 0.3]
    assert table["table"].unique().tolist() == ["photo_edits, test"]
    assert table["mark"].isna().tolist() == [True, False]


def test_without_numbers_no_folder_is_made(tmp_path: Path) -> None:
    write_csv(tmp_path / "new", {"Trials": []})
    assert not (tmp_path / "new").exists()
