"""Lengths, flags and examples of a file of expressive instructions."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mgie_lit.evaluation.files import write_whole
from mgie_lit.evaluation.grid import spread
from mgie_lit.prepare.expressive.flags import MEANINGS, words_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mgie_lit.prepare.expressive.settings import Settings

TEXTS = ("instruction", "answer", "cleaned", "expressive_instruction")
_QUANTILES = {"min": 0.0, "p5": 0.05, "median": 0.5, "p95": 0.95, "max": 1.0}
_GOOD, _PER_FLAG = 8, 3  # examples


def make_report(path: Path, settings: Settings) -> dict[str, Any]:
    """Count what a finished file holds.

    Args:
        path: Of JSON lines.
        settings: Of the run.

    Returns:
        ``num_rows``, ``num_unflagged``, ``words`` (of each text: mean and quantiles), ``flags`` (count and share),
        ``examples`` (evenly drawn ones without a flag, and the first few of each flag), ``settings`` (the hash).
    """
    lengths: dict[str, list[int]] = {name: [] for name in TEXTS}
    counts = dict.fromkeys(MEANINGS, 0)
    flagged: dict[str, list[dict[str, Any]]] = {name: [] for name in MEANINGS}
    clean_rows: list[int] = []
    for number, row in enumerate(_rows(path)):
        for name in TEXTS:
            lengths[name].append(len(words_of(row[name])))
        for flag in row["flags"]:
            counts[flag] += 1
            if len(flagged[flag]) < _PER_FLAG:
                flagged[flag].append(_example(row))
        if not row["flags"]:
            clean_rows.append(number)
    num_rows = len(lengths["answer"])
    shown = {clean_rows[index] for index in spread(len(clean_rows), _GOOD)}
    return {
        "num_rows": num_rows,
        "num_unflagged": len(clean_rows),
        "words": {name: _distribution(values) for name, values in lengths.items()},
        "flags": {name: {"count": count, "share": count / num_rows} for name, count in counts.items()},
        "examples": {
            "unflagged": [_example(row) for number, row in enumerate(_rows(path)) if number in shown],
            **{name: rows for name, rows in flagged.items() if rows},
        },
        "settings": settings.hash,
    }


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write the report as JSON, whole or not at all."""
    text = json.dumps(report, indent=2, ensure_ascii=False)
    write_whole(path, lambda draft: draft.write_text(text + "\n", encoding="utf-8", errors="replace"))


def show_report(report: dict[str, Any], console: Console) -> None:
    """Print the report's tables."""
    lengths = Table("words in", *_QUANTILES, "mean", title=f"{report['num_rows']} rows")
    for name, numbers in report["words"].items():
        lengths.add_row(name, *(f"{numbers[key]:.4g}" for key in _QUANTILES), f"{numbers['mean']:.1f}")
    console.print(lengths)
    flags = Table("flag", "rows", "share", "meaning")
    flags.add_row("none", str(report["num_unflagged"]), f"{report['num_unflagged'] / report['num_rows']:.1%}", "")
    for name, numbers in report["flags"].items():
        if numbers["count"]:
            flags.add_row(name, str(numbers["count"]), f"{numbers['share']:.1%}", MEANINGS[name])
    console.print(flags)
    examples = Table("flag", "instruction", "expressive instruction", show_lines=True)
    for name, rows in report["examples"].items():
        for row in rows:
            examples.add_row(name, escape(row["instruction"]), escape(row["expressive_instruction"]))
    console.print(examples)


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open("rb") as file:
        yield from map(json.loads, file)


def _example(row: dict[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in ("id", "instruction", "answer", "expressive_instruction", "flags")}


def _distribution(values: list[int]) -> dict[str, float]:
    numbers = np.asarray(values)
    quantiles = np.quantile(numbers, list(_QUANTILES.values()))
    return {"mean": float(numbers.mean()), **dict(zip(_QUANTILES, map(float, quantiles), strict=True))}
