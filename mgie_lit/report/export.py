"""The page's tables as Markdown and as CSV files."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mgie_lit.report.tables import Cell, Table, TableRow

_SYMBOLS = {"better": "✓ ", "worse": "✗ "}


def as_markdown(title: str, sections: Mapping[str, Sequence[Table]]) -> str:
    """All tables as a Markdown document.

    Args:
        title: Of the document.
        sections: Heading -> tables; empty ones are left out.

    Returns:
        Text that ends with a newline. The best of a column is bold, ``≈`` marks what can not be told from it.
    """
    blocks = [f"# {_escape(title)}"]
    for heading, tables in sections.items():
        if tables:
            blocks += [f"## {_escape(heading)}", *(_table(table) for table in tables)]
    return "\n\n".join(blocks) + "\n"


def write_csv(folder: Path, sections: Mapping[str, Sequence[Table]]) -> None:
    """Write a CSV a section, with a line a number in full precision.

    Args:
        folder: Made where it is missing.
        sections: Heading -> tables; the file is named after the heading.
    """
    for name, frame in as_frames(sections).items():
        folder.mkdir(parents=True, exist_ok=True)
        frame.to_csv(folder / f"{name}.csv", index=False)


def as_frames(sections: Mapping[str, Sequence[Table]]) -> dict[str, pd.DataFrame]:
    """The tables of each section as one, with a line a number; sections without any are left out."""
    records = {
        file_stem(heading): [{"table": table.title} | record for table in tables for record in table.records]
        for heading, tables in sections.items()
    }
    return {name: pd.DataFrame(lines) for name, lines in records.items() if lines}


def file_stem(heading: str) -> str:
    """A heading as a file name.

    >>> file_stem("Paired differences")
    'paired_differences'
    """
    return re.sub(r"\W+", "_", heading.lower()).strip("_")


def _table(table: Table) -> str:
    lines = [_line(table.columns), _line(["---", *("---:" for _ in table.columns[1:])], escape=False)]
    lines += [_line([_label(row), *(_cell(cell) for cell in row.cells)], escape=False) for row in table.rows]
    note = f"\n\n{_escape(table.note)}" if table.note else ""
    return f"### {_escape(table.title)}\n\n" + "\n".join(lines) + note


def _line(cells: Sequence[str], *, escape: bool = True) -> str:
    return "| " + " | ".join(_escape(cell) if escape else cell for cell in cells) + " |"


def _label(row: TableRow) -> str:
    return f"*{_escape(row.label)}*" if row.kind else _escape(row.label)


def _cell(cell: Cell) -> str:
    value = _escape(cell.value)
    if cell.mark == "best":
        value = f"**{value}**"
    elif cell.mark == "tie":
        value = f"≈ {value}"
    interval = f" ({_escape(cell.interval)})" if cell.interval else ""
    return f"{_SYMBOLS.get(cell.outcome or '', '')}{value}{interval}"


def _escape(text: str) -> str:
    """Words of strangers are neither markup nor cells of their own."""
    escaped = re.sub(r"([\\`*_\[\]|])", r"\\\1", " ".join(text.split()))
    return escaped.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
