"""Rows of the report's tables, as text."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mgie_lit.report.verdict import (
    MISSING,
    Outcome,
    format_value,
    higher_is_better,
    metric_label,
    outcome,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mgie_lit.report.read import Evaluation

Mark = Literal["", "best", "tie"]


@dataclass(frozen=True)
class Cell:
    """A number and, small below it, its 95 % interval."""

    value: str
    interval: str = ""
    outcome: Outcome | None = None  # beside what it is compared with; None where it is not compared
    mark: Mark = ""  # within its column: the best, or not shown to be different from the best


@dataclass(frozen=True)
class TableRow:
    """One row of a table."""

    label: str
    cells: list[Cell]
    kind: str = ""  # "published", "failed" or "copy" where it is no row like the others


@dataclass(frozen=True)
class Table:
    """A table as text, for the page and for Markdown, and as numbers, for CSV."""

    title: str
    columns: list[str]  # the first is that of the labels
    rows: list[TableRow]
    records: list[dict[str, object]] = field(default_factory=list)  # in full precision, a line of the CSV each
    note: str = ""


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
    seeds: str = ""  # standard deviation of the means over seeds, of an evaluation with several


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


def score_table(evaluation: Evaluation) -> Table:
    """All metrics of an evaluation beside copying, for a terminal."""
    rows = [
        TableRow(f"{row.label} {row.arrow}", [row.model, row.copy, row.difference, Cell(row.difference.interval)])
        for row in metric_rows(evaluation)
    ]
    return Table("Scores", ["metric", "model", "copy", "difference", "95 % interval"], rows)


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
        model=score_cell(name, model),
        copy=score_cell(name, copy),
        difference=score_cell(name, difference, sign=True, compared=compared),
        ratio="" if higher else _ratio(model, copy),
        count=str((model or {}).get("n", MISSING)),
        seeds=_spread_over_seeds(evaluation, name),
    )


def _spread_over_seeds(evaluation: Evaluation, name: str) -> str:
    spread = dict(evaluation.section("spread").get(name) or {})
    deviation = spread.get("over_seeds")
    return "" if deviation is None else f"±{format_value(name, deviation)} over {len(spread['seed_means'])} seeds"


def score_cell(
    name: str,
    part: Mapping[str, Any] | None,
    *,
    sign: bool = False,
    compared: Outcome | None = None,
    mark: Mark = "",
) -> Cell:
    """A metric's mean and interval as text.

    Args:
        name: Of the metric.
        part: ``{"mean", "ci_low", "ci_high"}``; None = not measured.
        sign: Write a plus too, as for differences.
        compared: Which side of zero a difference lies on.
        mark: Its place in its column.

    Returns:
        A dash where nothing was measured.
    """
    if not part or part.get("mean") is None:
        return Cell(MISSING)
    if part.get("ci_low") is None or part.get("ci_high") is None:
        return Cell(format_value(name, part["mean"], sign=sign), "", compared, mark)
    low, high = (format_value(name, part[key], sign=sign) for key in ("ci_low", "ci_high"))
    return Cell(format_value(name, part["mean"], sign=sign), f"{low} to {high}", compared, mark)


def metric_heading(name: str, evaluation: Evaluation) -> str:
    """Label of a metric with an arrow to where it is better."""
    return f"{metric_label(name)} {_arrow(name, evaluation)}"


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
    labels = [metric_heading(name, evaluation) for name in names]
    return GroupTable(attribute, labels, rows)


def _group_cell(evaluation: Evaluation, name: str, means: dict[str, Any]) -> tuple[Cell, str]:
    """The mean, marked where it is on the wrong or right side of copying (no interval), and copying's."""
    mean, copied = means.get(name), means.get(f"copy_{name}")
    compared: Outcome | None = None
    if mean is not None and copied is not None and mean != copied:
        compared = "better" if (mean > copied) == higher_is_better(name, evaluation) else "worse"
    return Cell(format_value(name, mean), outcome=compared), "" if copied is None else format_value(name, copied)
