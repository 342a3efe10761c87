"""The table of systems: each in a row, on the samples that all of them have, with published numbers below."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mgie_lit.evaluation.table import COPY_PREFIX
from mgie_lit.report.compare import bootstrap_of, comparable_metrics, sample_means, units_of
from mgie_lit.report.published import MARKS, rows_for
from mgie_lit.report.tables import Cell, Table, TableRow, metric_heading, score_cell
from mgie_lit.report.verdict import FEW_UNITS, MISSING, format_value, higher_is_better

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.report.published import PublishedRow
    from mgie_lit.report.read import Evaluation
    from mgie_lit.report.tables import Mark

COPY = "copy"


@dataclass(frozen=True)
class Score:
    """One metric of one system on the common samples."""

    mean: float
    ci_low: float | None  # None where a single unit was scored
    ci_high: float | None
    n: int
    mark: Mark

    @property
    def part(self) -> dict[str, object]:
        """As in ``metrics.json``."""
        return {"mean": self.mean, "ci_low": self.ci_low, "ci_high": self.ci_high}


def systems_table(group: Sequence[Evaluation]) -> Table:
    """A row a system and a column a metric; the best of each column marked, and what can not be told from it.

    Args:
        group: Evaluations of the same data, at least one.

    Returns:
        Means over the samples that all of them have scored, ``copy`` as a system of its own where none of them is it,
        and published rows of the same data, which enter no mean and get no mark.
    """
    names = list(dict.fromkeys(name for one in group for name in one.metric_names))
    scores = {name: score_systems(group, name) for name in names}
    systems = list(dict.fromkeys([one.name for one in group] + [COPY for found in scores.values() if COPY in found]))
    first = {name: next(one for one in group if name in one.metric_names) for name in names}
    rows = [
        TableRow(
            system, [_cell(name, scores[name].get(system)) for name in names] + [_count(system, scores)], _kind(system)
        )
        for system in systems
    ]
    records: list[dict[str, object]] = [
        {"system": system, "kind": "measured", "metric": name, **found[system].part}
        | {"n": found[system].n, "mark": found[system].mark, "source": ""}
        for system in systems
        for name, found in scores.items()
        if system in found
    ]
    published = [row for row in published_beside(group[0]) if set(row.scores) & set(names)]
    rows += [_published_row(row, names) for row in published]
    records += [record for row in published for record in _published_records(row, names)]
    headings = [metric_heading(name, first[name]) for name in names]
    return Table(title_of(group), ["system", *headings, "n"], rows, records, _note(group, names, published))


def _kind(system: str) -> str:
    return "copy" if system == COPY else ""


def title_of(group: Sequence[Evaluation]) -> str:
    """Data set, split and turns, as far as they are recorded."""
    protocol = group[0].section("protocol")
    turns = " (chains of turns)" if protocol.get("turns") == "chain" else ""
    words = [data_name(group[0]) or "", str(protocol.get("split") or "")]
    return (", ".join(word for word in words if word) or "Systems") + turns


def data_name(evaluation: Evaluation) -> str | None:
    """As in ``data=``; None where it is not recorded."""
    data = evaluation.section("protocol").get("data")
    reader = data.get("reader") if isinstance(data, dict) else None
    target = reader.get("_target_") if isinstance(reader, dict) else None
    if isinstance(target, str) and target.startswith("mgie_lit.data.readers."):
        return target.split(".")[3]
    chosen = [text.partition("=")[2] for text in evaluation.origin.overrides if text.startswith("data=")]
    return chosen[-1] if chosen else None


def published_beside(evaluation: Evaluation) -> tuple[PublishedRow, ...]:
    """Published rows of the data set that was evaluated, on its test split."""
    name, protocol = data_name(evaluation), evaluation.section("protocol")
    turns = protocol.get("turns")
    if name is None or protocol.get("split") != "test":
        return ()
    return rows_for(name, turns=turns if isinstance(turns, str) else None)


def score_systems(group: Sequence[Evaluation], name: str) -> dict[str, Score]:
    """Scores of a metric on the samples that all systems have it on.

    Args:
        group: Evaluations of the same data.
        name: Of the metric; systems that lack it, or measured it differently from the first that has it, are left out.

    Returns:
        System -> score; empty where no sample is common.
    """
    having = [one for one in group if name in one.metric_names]
    having = [one for one in having if name in comparable_metrics([having[0], one])]
    columns = {one.name: sample_means(one, [name])[name] for one in having}
    copied = COPY_PREFIX + name
    with_copy = next((one for one in having if copied in one.table), None)
    if with_copy is not None and not any(_is_copy(one) for one in group) and COPY not in columns:
        columns[COPY] = sample_means(with_copy, [copied])[copied]
    table = pd.DataFrame(columns).dropna()
    if table.empty:
        return {}
    table = table.loc[[name for name in columns[having[0].name].index if name in table.index]]
    return _marked(table, having[0], higher=higher_is_better(name, having[0]))


def _marked(table: pd.DataFrame, evaluation: Evaluation, *, higher: bool) -> dict[str, Score]:
    """Best by its mean; a tie where the interval of the paired difference from the best has zero in it."""
    values = table.to_numpy(np.float64)
    means = values.mean(axis=0)
    best = int(means.argmax() if higher else means.argmin())
    columns = np.concatenate([values, values - values[:, [best]]], axis=1)
    low, high = bootstrap_of(evaluation).intervals(columns, units_of(evaluation, list(table.index)))
    count = len(means)
    marks: list[Mark] = [
        "best" if index == best else "" if low[count + index] > 0 or high[count + index] < 0 else "tie"
        for index in range(count)
    ]
    if count == 1:
        marks = [""]  # nothing to be better than
    return {
        str(system): Score(float(means[index]), _end(low[index]), _end(high[index]), len(table), marks[index])
        for index, system in enumerate(table.columns)
    }


def _end(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _is_copy(evaluation: Evaluation) -> bool:
    return evaluation.section("source").get("system") == COPY


def _cell(name: str, score: Score | None) -> Cell:
    return Cell(MISSING) if score is None else score_cell(name, score.part, mark=score.mark)


def _count(system: str, scores: dict[str, dict[str, Score]]) -> Cell:
    counts = sorted({found[system].n for found in scores.values() if system in found})
    return Cell(" to ".join(str(count) for count in dict.fromkeys([*counts[:1], *counts[-1:]])) or MISSING)


def _published_row(row: PublishedRow, names: Sequence[str]) -> TableRow:
    cells = [
        Cell(format_value(name, row.scores[name].value), f"published [{row.scores[name].mark}]")
        if name in row.scores
        else Cell(MISSING)
        for name in names
    ]
    return TableRow(f"{row.system} ({row.table})", [*cells, Cell(MISSING)], "published")


def _published_records(row: PublishedRow, names: Sequence[str]) -> list[dict[str, object]]:
    return [
        {"system": row.system, "kind": "published", "metric": name, "mean": row.scores[name].value}
        | {"mark": f"trust {row.scores[name].mark}", "source": f"{row.source.title}; {row.table}; {row.source.url}"}
        for name in names
        if name in row.scores
    ]


def _note(group: Sequence[Evaluation], names: Sequence[str], published: Sequence[PublishedRow]) -> str:
    counts = {one.name: one.table["sample_id"].nunique() for one in group}
    notes = []
    if len(set(counts.values())) > 1 or any(one.table[name].isna().any() for one in group for name in one.metric_names):
        told = ", ".join(f"{name} {_num_scored(one)}" for name, one in zip(counts, group, strict=True))
        notes.append(f"Only common samples are counted (n); scored were: {told}.")
    differently = [
        f"{name} of {one.name}"
        for name in names
        for one in group
        if name in one.metric_names and _differs(one, group, name)
    ]
    if differently:
        notes.append(f"Left out, for it was measured differently (see protocol): {', '.join(differently)}.")
    num_units = len({unit for one in group[:1] for unit in units_of(one, list(one.table["sample_id"].unique()))})
    if num_units < FEW_UNITS:
        notes.append(f"Intervals rest on {num_units} independent units, so they are rough.")
    if published:
        marks = sorted({score.mark for row in published for name, score in row.scores.items() if name in names})
        sources = {row.source.title: row.source for row in published}
        notes.append("Published numbers stand beside ours and enter no mean, interval or mark.")
        notes += [f"[{mark}] = {MARKS[mark]}." for mark in marks]
        notes += [f"{source.title}, {source.url}: {source.note}" for source in sources.values()]
    return " ".join(notes)


def _num_scored(evaluation: Evaluation) -> int:
    scored = sample_means(evaluation, evaluation.metric_names).notna().any(axis=1)
    return int(scored.sum())


def _differs(evaluation: Evaluation, group: Sequence[Evaluation], name: str) -> bool:
    first = next(one for one in group if name in one.metric_names)
    return name not in comparable_metrics([first, evaluation])
