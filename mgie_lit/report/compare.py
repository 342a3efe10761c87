"""Evaluations of the same data beside each other, sample by sample: differences, intervals, wins, losses, ties."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np

from mgie_lit.evaluation.intervals import Bootstrap, choose_units
from mgie_lit.evaluation.table import COPY_PREFIX
from mgie_lit.report.tables import Cell, Table, TableRow, metric_heading, score_cell
from mgie_lit.report.verdict import MISSING, higher_is_better, outcome

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    import pandas as pd
    from numpy.typing import NDArray

    from mgie_lit.report.read import Evaluation

MAX_FOR_ALL_PAIRS = 4  # more systems are compared with the first alone
MIN_GROUP = 2  # samples of a category that an interval needs
SAME_SCORE = 1e-4  # copies of the same images have the same scores, but for rounding that depends on the batch


@dataclass(frozen=True)
class Difference:
    """One metric of two evaluations on the samples that both have scored."""

    metric: str
    mean: float  # second minus first
    ci_low: float | None
    ci_high: float | None
    n: int  # common samples
    wins: int  # samples on which the second is better
    losses: int
    ties: int  # exactly equal

    @property
    def part(self) -> dict[str, float | None]:
        """As in ``metrics.json``."""
        return {"mean": self.mean, "ci_low": self.ci_low, "ci_high": self.ci_high}


@dataclass(frozen=True)
class Pair:
    """Two evaluations of the same data."""

    first: Evaluation
    second: Evaluation

    @property
    def name(self) -> str:
        """Both names, in the order of the subtraction."""
        return f"{self.second.name} minus {self.first.name}"


def group_by_data(evaluations: Sequence[Evaluation]) -> list[list[Evaluation]]:
    """Put evaluations of the same data together; in the order given."""
    groups: list[list[Evaluation]] = []
    for evaluation in evaluations:
        group = next((group for group in groups if all(same_data(other, evaluation) for other in group)), None)
        if group is None:
            groups.append([evaluation])
        else:
            group.append(evaluation)
    return groups


def same_data(first: Evaluation, second: Evaluation) -> bool:
    """Whether two evaluations have samples in common, with the same words and images, and use them the same way.

    Images are told apart by the scores that the source gets as an edit, so folders may have moved.
    """
    for key in ("split", "turns"):
        values = {str(one.section("protocol").get(key)) for one in (first, second)} - {"None"}
        if len(values) > 1:
            return False
    tables = [one.table.drop_duplicates("sample_id").set_index("sample_id") for one in (first, second)]
    common = tables[0].index.intersection(tables[1].index)
    if not len(common):
        return False
    rows = [table.loc[common] for table in tables]
    if (rows[0]["instruction"] != rows[1]["instruction"]).any():
        return False
    return all(
        _agree(rows[0][COPY_PREFIX + name], rows[1][COPY_PREFIX + name])
        for name in comparable_metrics([first, second])
        if all(COPY_PREFIX + name in table for table in rows)
    )


def _agree(first: pd.Series, second: pd.Series) -> bool:
    gap = np.abs(first.to_numpy(np.float64) - second.to_numpy(np.float64))
    return bool((gap[~np.isnan(gap)] <= SAME_SCORE).all())


def comparable_metrics(evaluations: Sequence[Evaluation]) -> list[str]:
    """Metrics that all evaluations have, measured the same way (encoder and preprocessing too)."""
    first = evaluations[0]
    return [
        name
        for name in first.metric_names
        if all(name in one.metric_names and _describes(one, name) == _describes(first, name) for one in evaluations)
    ]


def _describes(evaluation: Evaluation, name: str) -> object:
    return dict(evaluation.section("protocol").get("metrics") or {}).get(name)


def sample_means(evaluation: Evaluation, columns: Sequence[str]) -> pd.DataFrame:
    """Mean over the seeds of each sample: a row a sample id, a column a metric; NaN where nothing was scored."""
    return evaluation.table.groupby("sample_id", sort=False)[list(columns)].mean()


def bootstrap_of(evaluation: Evaluation) -> Bootstrap:
    """Draws as the evaluation made its own intervals."""
    made = evaluation.section("protocol").get("intervals")
    described = made if isinstance(made, dict) else {}
    default = Bootstrap()
    return Bootstrap(
        int(described.get("num_draws", default.num_draws)),
        int(described.get("seed", default.seed)),
        float(described.get("level", default.level)),
    )


def units_of(evaluation: Evaluation, sample_ids: Sequence[str]) -> list[str]:
    """For each sample the unit that the bootstrap draws: its session, as in the evaluation."""
    if "session_id" not in evaluation.table:
        return list(sample_ids)
    sessions = evaluation.table.drop_duplicates("sample_id").set_index("sample_id")["session_id"]
    return choose_units([str(name or "") for name in sessions.loc[list(sample_ids)]], list(sample_ids))[1]


def differences(pair: Pair, sample_ids: Sequence[str] | None = None) -> list[Difference]:
    """Second minus first on the common samples, for each metric that both measured the same way.

    Args:
        pair: Two evaluations of the same data.
        sample_ids: Compare these samples only; None = all.

    Returns:
        Without metrics that no common sample has a score in.
    """
    names = comparable_metrics([pair.first, pair.second])
    means = [sample_means(one, names) for one in (pair.first, pair.second)]
    common = means[0].index.intersection(means[1].index)
    common = common if sample_ids is None else common[common.isin(sample_ids)]
    if not names or not len(common):
        return []
    values = means[1].loc[common].to_numpy(np.float64) - means[0].loc[common].to_numpy(np.float64)
    ends = bootstrap_of(pair.first).intervals(values, units_of(pair.first, list(common)))
    columns = zip(names, values.T, *ends, strict=True)
    made = [_difference(name, column, low, high, pair.first) for name, column, low, high in columns]
    return [one for one in made if one is not None]


def _difference(
    name: str, values: NDArray[np.float64], low: float, high: float, evaluation: Evaluation
) -> Difference | None:
    scored = values[~np.isnan(values)]
    if not len(scored):
        return None
    gains = scored if higher_is_better(name, evaluation) else -scored
    is_drawn = len(scored) >= MIN_GROUP
    return Difference(
        metric=name,
        mean=float(scored.mean()),
        ci_low=float(low) if is_drawn and not np.isnan(low) else None,
        ci_high=float(high) if is_drawn and not np.isnan(high) else None,
        n=len(scored),
        wins=int((gains > 0).sum()),
        losses=int((gains < 0).sum()),
        ties=int((gains == 0).sum()),
    )


def choose_pairs(group: Sequence[Evaluation]) -> list[Pair]:
    """Every two of a few systems; of many, each with the first."""
    if len(group) <= MAX_FOR_ALL_PAIRS:
        return [Pair(first, second) for first, second in combinations(group, 2)]
    return [Pair(group[0], second) for second in group[1:]]


def pair_table(pair: Pair) -> Table:
    """A row a metric: difference, interval, wins, losses, ties."""
    whole = differences(pair)
    columns = ["metric", "difference", "wins", "losses", "ties", "n"]
    rows = [TableRow(metric_heading(one.metric, pair.first), _pair_cells(one, pair)) for one in whole]
    names = [one.metric for one in whole]
    counts = [sum(len(one.table["sample_id"].unique()) for one in (pair.first, pair.second)), 2 * _most(whole)]
    note = f"Only the {_most(whole)} common samples are compared. " if counts[0] != counts[1] else ""
    left_out = [name for name in pair.first.metric_names if name in pair.second.metric_names and name not in names]
    if left_out:
        note += f"Left out, for they were measured differently or have no common sample: {', '.join(left_out)}."
    return Table(pair.name, columns, rows, [_record(one, pair) for one in whole], note.strip())


def category_tables(pair: Pair) -> list[Table]:
    """A table an attribute that splits the common samples: a row a value, a column a metric."""
    names = comparable_metrics([pair.first, pair.second])
    tables = []
    for attribute, members in categories(pair).items():
        found = {value: differences(pair, ids) for value, ids in members.items()}
        rows = [TableRow(value, _category_cells(made, names, pair)) for value, made in found.items() if made]
        records = [
            {"attribute": attribute, "value": value} | _record(one, pair)
            for value, made in found.items()
            for one in made
        ]
        headings = [metric_heading(name, pair.first) for name in names]
        note = (
            "Behind the interval: wins / losses / ties. Many categories are many chances for an interval to miss zero."
        )
        tables.append(Table(f"{pair.name}, by {attribute}", [attribute, *headings, "n"], rows, records, note))
    return tables


def categories(pair: Pair) -> dict[str, dict[str, list[str]]]:
    """Attribute -> value -> ids of common samples; attributes with one value say nothing new and are left out."""
    table = pair.first.table.drop_duplicates("sample_id")
    table = table[table["sample_id"].isin(pair.second.table["sample_id"])]
    attributes = [name for name in pair.first.section("groups") if name in table and table[name].nunique() > 1]
    return {name: {str(value): list(rows["sample_id"]) for value, rows in _by(table, name)} for name in attributes}


def _by(table: pd.DataFrame, name: str) -> list[tuple[Hashable, pd.DataFrame]]:
    return list(table.groupby(name, sort=True))


def _most(made: Sequence[Difference]) -> int:
    return max((one.n for one in made), default=0)


def _cell(one: Difference, pair: Pair) -> Cell:
    compared = outcome(one.part, higher=higher_is_better(one.metric, pair.first))
    return score_cell(one.metric, one.part, sign=True, compared=compared)


def _pair_cells(one: Difference, pair: Pair) -> list[Cell]:
    return [_cell(one, pair), *(Cell(str(count)) for count in (one.wins, one.losses, one.ties, one.n))]


def _category_cells(made: Sequence[Difference], names: Sequence[str], pair: Pair) -> list[Cell]:
    found = {one.metric: one for one in made}
    cells = [_counted(found[name], pair) if name in found else Cell(MISSING) for name in names]
    return [*cells, Cell(str(_most(made)))]


def _counted(one: Difference, pair: Pair) -> Cell:
    """The difference, with wins, losses and ties behind its interval."""
    cell, counts = _cell(one, pair), f"{one.wins} / {one.losses} / {one.ties}"
    return replace(cell, interval=f"{cell.interval}, {counts}" if cell.interval else counts)


def _record(one: Difference, pair: Pair) -> dict[str, object]:
    numbers = {"wins": one.wins, "losses": one.losses, "ties": one.ties, "n": one.n}
    compared = outcome(one.part, higher=higher_is_better(one.metric, pair.first))
    names = {"first": pair.first.name, "second": pair.second.name, "metric": one.metric}
    return {**names, **one.part, "outcome": compared, **numbers}
