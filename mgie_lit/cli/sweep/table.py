"""The trials of a sweep as text, the best first said."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mgie_lit.errors import MGIEError
from mgie_lit.report.sweeps import read_all, read_sweep, trial_table

if TYPE_CHECKING:
    from pathlib import Path

    from mgie_lit.report.tables import Cell, Table


def print_table(sweep_dir: Path) -> None:
    """Print all trials of a sweep, and which is the best: what ``mgie report`` shows of it."""
    try:
        _, _, (sweep,) = read_all([sweep_dir])
    except MGIEError:  # a trial was killed while it wrote; records say what came out
        sweep = read_sweep(sweep_dir, [])
    table = trial_table(sweep)
    print(as_text(table))
    print(table.note)


def as_text(table: Table) -> str:
    """A table in columns; the best of a column has a star.

    Args:
        table: Of the report.

    Returns:
        A line a row below the headings.
    """
    rows = [list(table.columns)]
    rows += [[row.label, *map(_cell, row.cells)] for row in table.rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _cell(cell: Cell) -> str:
    return f"{cell.value} *" if cell.mark == "best" else cell.value
