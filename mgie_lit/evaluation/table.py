"""The table of an evaluation: a row a sample and seed, and the means and intervals that are read from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from mgie_lit.errors import DataError
from mgie_lit.evaluation.files import write_whole
from mgie_lit.evaluation.intervals import Bootstrap, choose_units

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from mgie_lit.evaluation.scoring import ScoredEdit

COPY_PREFIX = "copy_"  # of the columns with the scores of the source image
MAX_GROUPS = 100  # an attribute with more values (a free text, an id) is not a grouping

Summary = dict[str, dict[str, dict[str, object]]]


def make_row(edit: ScoredEdit, image_path: str | None) -> dict[str, object]:
    """One row of the table.

    Args:
        edit: A scored sample.
        image_path: Edited image, relative to the evaluation's folder; None where none is written.

    Returns:
        Column -> value.

    Raises:
        DataError: An attribute of the data set has the name of another column.
    """
    example = edit.example
    row: dict[str, object] = {
        "sample_id": example.sample_id,
        "seed": edit.seed,
        "session_id": example.session_id,
        "turn": example.turn,
        **edit.scores,
        **{COPY_PREFIX + name: score for name, score in edit.copy_scores.items()},
        "instruction": example.instruction,
        "expressive_instruction": edit.edited.expressive_instruction if edit.edited else None,
        "expressive_target": example.expressive_instruction,
        "image_path": image_path,
    }
    taken = sorted(set(row) & set(example.attributes))
    if taken:
        raise DataError(
            f"{example.sample_id}: expected attributes with names of their own, got {', '.join(taken)}, which the "
            "table of an evaluation uses; rename them in the data set"
        )
    return row | dict(example.attributes)


def make_table(rows: Sequence[Mapping[str, object]], *, num_samples: int, seeds: Sequence[int]) -> pd.DataFrame:
    """All rows as a table.

    Args:
        rows: From :func:`make_row`.
        num_samples: Size of the data set.
        seeds: Every sample has a row under each of them.

    Returns:
        The table, ordered by seed, then as the rows came.

    Raises:
        DataError: There are no rows, or not exactly one a sample and seed.
    """
    table = pd.DataFrame(rows)
    expected = num_samples * len(seeds)
    num_repeated = int(table.duplicated(["sample_id", "seed"]).sum()) if rows else 0
    if not rows or len(table) != expected or num_repeated:
        raise DataError(
            f"evaluation: expected one row a sample and seed, {num_samples} x {len(seeds)} = {expected}, got "
            f"{len(table)} with {num_repeated} repeated; the data set must give every index once and every id once"
        )
    position = {seed: index for index, seed in enumerate(seeds)}
    return table.sort_values("seed", key=lambda column: column.map(position), kind="stable", ignore_index=True)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write the table as a parquet file, whole or not at all."""
    write_whole(path, lambda draft: table.to_parquet(draft, index=False))


def summarise(
    table: pd.DataFrame, metric_names: Sequence[str], attributes: Iterable[str], bootstrap: Bootstrap
) -> tuple[Summary, dict[str, object]]:
    """Means, intervals, paired differences and groups.

    Args:
        table: From :func:`make_table`, or several of them concatenated.
        metric_names: Columns to summarise.
        attributes: Columns to group by.
        bootstrap: How intervals are drawn.

    Returns:
        ``metrics``, ``copy``, ``paired_vs_copy`` (model minus copy) and ``groups`` of ``metrics.json``, and what
        ``protocol`` says about the intervals. Numbers are None where nothing was scored.
    """
    with_copy = [name for name in metric_names if COPY_PREFIX + name in table]
    model = table[list(metric_names)].to_numpy(np.float64)
    copy = table[[COPY_PREFIX + name for name in with_copy]].to_numpy(np.float64)
    paired = table[with_copy].to_numpy(np.float64) - copy
    values = np.concatenate([model, copy, paired], axis=1)
    unit, units = choose_units(table["session_id"].tolist(), table["sample_id"].tolist())
    columns = _columns(values, bootstrap.intervals(values, units))

    first, last = len(metric_names), len(metric_names) + len(with_copy)
    differences = [{key: column[key] for key in ("mean", "ci_low", "ci_high")} for column in columns[last:]]
    summary: Summary = {
        "metrics": dict(zip(metric_names, columns[:first], strict=True)),
        "copy": dict(zip(with_copy, columns[first:last], strict=True)),
        "paired_vs_copy": dict(zip(with_copy, differences, strict=True)),
        "groups": {name: _groups(table, name, metric_names) for name in attributes if _is_grouping(table[name])},
    }
    return summary, bootstrap.describe(unit, units)


def spread_of_means(table: pd.DataFrame, metric_names: Sequence[str]) -> dict[str, dict[str, object]]:
    """How far scores are apart, over samples and over seeds; standard deviations with ``n - 1``.

    Args:
        table: From :func:`make_table`.
        metric_names: Columns.

    Returns:
        For each metric ``over_samples`` (of each sample's mean over its seeds), ``over_seeds`` (of each seed's mean
        over the samples) and ``seed_means``; None where there are fewer than two to compare.
    """
    spread: dict[str, dict[str, object]] = {}
    for name in metric_names:
        samples = table.groupby("sample_id", sort=False)[name].mean()
        seeds = table.groupby("seed", sort=False)[name].mean()
        spread[name] = {
            "over_samples": _deviation(samples),
            "over_seeds": _deviation(seeds),
            "seed_means": {str(seed): None if np.isnan(mean) else float(mean) for seed, mean in seeds.items()},
        }
    return spread


def means_by_turn(table: pd.DataFrame, metric_names: Sequence[str]) -> dict[str, dict[str, object]]:
    """Means of the turns of sessions, by ``turn_<number>``; empty where no session has a second turn."""
    if table["turn"].max() < 2:
        return {}
    return {f"turn_{turn}": plain_means(rows, metric_names) for turn, rows in table.groupby("turn", sort=True)}


def plain_means(table: pd.DataFrame, metric_names: Sequence[str]) -> dict[str, object]:
    """Mean of each metric, and the number of rows as ``n``."""
    means: dict[str, object] = {name: plain_mean(table[name].to_numpy(np.float64)) for name in metric_names}
    return means | {"n": len(table)}


def plain_mean(values: NDArray[np.float64]) -> float | None:
    """Mean of what was scored (not NaN), None where nothing was."""
    scored = values[~np.isnan(values)]
    return float(scored.mean()) if scored.size else None


def _deviation(means: pd.Series) -> float | None:
    scored = means.dropna().to_numpy(np.float64)
    return float(scored.std(ddof=1)) if len(scored) > 1 else None


def _columns(values: NDArray[np.float64], ends: NDArray[np.float64]) -> list[dict[str, object]]:
    return [
        {
            "mean": plain_mean(column),
            "ci_low": None if np.isnan(low) else float(low),
            "ci_high": None if np.isnan(high) else float(high),
            "n": int((~np.isnan(column)).sum()),
        }
        for column, low, high in zip(values.T, *ends, strict=True)
    ]


def _groups(table: pd.DataFrame, attribute: str, metric_names: Sequence[str]) -> dict[str, object]:
    """Means of metrics and copies for each value of an attribute."""
    names = [column for name in metric_names for column in (name, COPY_PREFIX + name) if column in table]
    return {str(value): plain_means(rows, names) for value, rows in table.groupby(attribute, sort=True)}


def _is_grouping(column: pd.Series) -> bool:
    return 0 < column.nunique() <= MAX_GROUPS
