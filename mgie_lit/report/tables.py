"""Rows of the report's tables, as text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgie_lit.report.verdict import (
    MISSING,
    Outcome,
    format_value,
    higher_is_better,
    metric_label,
    outcome,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.report.read import Evaluation


@dataclass(frozen=True)
class Cell:
    """A number and, small below it, its 95 % interval."""

    value: str
    interval: str = ""
    outcome: Outcome | None = None  # beside copying; None where it is not compared


@dataclass(frozen=True)
class MetricRow:
    """One metric of one evaluation."""

    label: str
    arrow: str  # which direction is better
    model: Cell
    copy: Cell
    difference: Cell
    ratio: str  # model / copy, for errors only
    count: str


@dataclass(frozen=True)
class ComparisonBlock:
    """One metric of several evaluations: a cell a run in each row."""

    label: str
    arrow: str
    model: list[Cell]
    copy: list[Cell]
    difference: list[Cell]
    count: list[str]

    @property
    def is_compared(self) -> bool:
        """Whether copying has this metric in any of the evaluations."""
        return any(cell.value != MISSING for cell in self.copy)


@dataclass(frozen=True)
class GroupTable:
    """Means by the values of one attribute."""

    attribute: str
    metrics: list[str]  # labels with arrows
    rows: list[tuple[str, int, list[tuple[Cell, str]]]]  # value, n, for each metric the model's cell and copy's text


def metric_rows(evaluation: Evaluation) -> list[MetricRow]:
    """All metrics of an evaluation, in its order."""
    return [_metric_row(evaluation, name) for name in evaluation.metric_names]


def comparison(evaluations: Sequence[Evaluation]) -> list[ComparisonBlock]:
    """Metrics of several evaluations side by side; a metric that one lacks has empty cells there."""
    blocks = []
    for name in dict.fromkeys(name for evaluation in evaluations for name in evaluation.metric_names):
        rows = [_metric_row(evaluation, name) for evaluation in evaluations]
        first = next(evaluation for evaluation in evaluations if name in evaluation.metric_names)
        blocks.append(
            ComparisonBlock(
                label=metric_label(name),
                arrow=_arrow(name, first),
                model=[row.model for row in rows],
                copy=[row.copy for row in rows],
                difference=[row.difference for row in rows],
                count=[row.count for row in rows],
            )
        )
    return blocks


def group_tables(evaluation: Evaluation) -> list[GroupTable]:
    """A table an attribute that has more than one value; ``operation`` comes first."""
    groups = {name: values for name, values in evaluation.section("groups").items() if len(values) > 1}
    names = sorted(groups, key=lambda name: name != "operation")
    return [_group_table(evaluation, name, groups[name]) for name in names]


def _metric_row(evaluation: Evaluation, name: str) -> MetricRow:
    model, copy, difference = (evaluation.section(part).get(name) for part in ("metrics", "copy", "paired_vs_copy"))
    higher = higher_is_better(name, evaluation)
    compared = outcome(difference, higher=higher) if difference else None
    return MetricRow(
        label=metric_label(name),
        arrow=_arrow(name, evaluation),
        model=_cell(name, model),
        copy=_cell(name, copy),
        difference=_cell(name, difference, sign=True, compared=compared),
        ratio="" if higher else _ratio(model, copy),
        count=str((model or {}).get("n", MISSING)),
    )


def _cell(name: str, part: dict[str, Any] | None, *, sign: bool = False, compared: Outcome | None = None) -> Cell:
    if not part:
        return Cell(MISSING)
    low, high = (format_value(name, part.get(key), sign=sign) for key in ("ci_low", "ci_high"))
    return Cell(format_value(name, part.get("mean"), sign=sign), f"{low} to {high}", compared)


def _ratio(model: dict[str, Any] | None, copy: dict[str, Any] | None) -> str:
    mean, copied = ((part or {}).get("mean") for part in (model, copy))
    return f"{mean / copied:.2f}" if mean is not None and copied else ""


def _arrow(name: str, evaluation: Evaluation) -> str:
    return "↑" if higher_is_better(name, evaluation) else "↓"


def _group_table(evaluation: Evaluation, attribute: str, values: dict[str, dict[str, Any]]) -> GroupTable:
    names = [name for name in evaluation.metric_names if any(name in means for means in values.values())]
    rows = [
        (value, int(means.get("n", 0)), [_group_cell(evaluation, name, means) for name in names])
        for value, means in values.items()
    ]
    labels = [f"{metric_label(name)} {_arrow(name, evaluation)}" for name in names]
    return GroupTable(attribute, labels, rows)


def _group_cell(evaluation: Evaluation, name: str, means: dict[str, Any]) -> tuple[Cell, str]:
    """The mean, marked where it is on the wrong or right side of copying (no interval), and copying's."""
    mean, copied = means.get(name), means.get(f"copy_{name}")
    compared: Outcome | None = None
    if mean is not None and copied is not None and mean != copied:
        compared = "better" if (mean > copied) == higher_is_better(name, evaluation) else "worse"
    return Cell(format_value(name, mean), outcome=compared), "" if copied is None else format_value(name, copied)
