from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest

from mgie_lit.report.compare import (
    MAX_FOR_ALL_PAIRS,
    Pair,
    category_tables,
    choose_pairs,
    comparable_metrics,
    differences,
    group_by_data,
    pair_table,
    same_data,
)
from mgie_lit.report.read import Evaluation, read_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Path]


def evaluations(tmp_path: Path, make: Make, *sizes: int) -> list[Evaluation]:
    folders = [make(tmp_path / f"system{index}", size, pictures=False) for index, size in enumerate(sizes)]
    return read_directories(folders)[1]


def test_difference_is_second_minus_first_with_wins_and_ties(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 8, 8)
    second.table["l1"] = first.table["l1"] + np.array([-0.01] * 4 + [0.02] * 3 + [0.0])
    second.table["psnr"] = first.table["psnr"] + 1.0
    l1, ssim, psnr, _ = differences(Pair(first, second))
    assert l1.mean == pytest.approx((-0.04 + 0.06) / 8)
    assert (l1.wins, l1.losses, l1.ties, l1.n) == (4, 3, 1, 8)  # lower is better
    assert (ssim.mean, ssim.wins, ssim.losses, ssim.ties) == (0.0, 0, 0, 8)
    assert (psnr.wins, psnr.ci_low, psnr.ci_high) == (8, pytest.approx(1.0), pytest.approx(1.0))


def test_intervals_are_drawn_over_sessions(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 40, 40)
    own = {f"photo-{index}": value for index, value in enumerate((-0.03, -0.01, 0.01, 0.03))}
    second.table["l1"] = first.table["l1"] + second.table["session_id"].map(own)
    (l1, *_) = differences(Pair(first, second))
    drawn = np.random.default_rng(0).integers(4, size=(20_000, 4))
    means = np.asarray(list(own.values()))[drawn].mean(axis=1)
    assert (l1.ci_low, l1.ci_high) == pytest.approx(tuple(np.percentile(means, [2.5, 97.5])), abs=3e-3)


def test_only_common_samples_are_compared(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 10, 6)
    second.table.loc[0, "l1"] = np.nan  # not scored
    table = pair_table(Pair(first, second))
    assert [row.cells[-1].value for row in table.rows] == ["5", "6", "6", "6"]
    assert table.note == "Only the 6 common samples are compared."
    assert table.title == "system1 minus system0"
    assert table.records[0]["n"] == 5


def test_seeds_are_averaged_first(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 6, 6)
    up, down = (second.table.assign(seed=seed, l1=second.table["l1"] + gap) for seed, gap in ((0, 0.3), (1, -0.1)))
    both = Evaluation(second.name, second.path, second.summary, pd.concat([up, down]), second.origin)
    (l1, *_) = differences(Pair(first, both))
    assert (l1.mean, l1.n, l1.losses) == (pytest.approx(0.1), 6, 6)


def test_a_metric_measured_differently_is_left_out(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 6, 6)
    second.summary["protocol"]["metrics"]["ssim"]["window"] = 7
    assert comparable_metrics([first, second]) == ["l1", "psnr", "expressive_exact"]
    table = pair_table(Pair(first, second))
    assert "measured differently or have no common sample: ssim" in table.note
    assert len(table.rows) == 3


def test_by_category(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 10, 10)
    second.table["l1"] = first.table["l1"] + np.where(first.table["operation"] == "darker", 0.05, -0.01)
    tables = {table.columns[0]: table for table in category_tables(Pair(first, second))}
    assert set(tables) == {"wording", "operation"}  # family has one value
    rows = {row.label: row for row in tables["operation"].rows}
    assert rows["darker"].cells[0].outcome == "worse"
    assert rows["brighter"].cells[0].outcome == "better"
    assert rows["darker"].cells[0].interval.endswith(", 0 / 2 / 0")
    assert rows["darker"].cells[-1].value == "2"
    record = next(one for one in tables["operation"].records if one["value"] == "darker" and one["metric"] == "l1")
    assert (record["losses"], record["outcome"], record["mean"]) == (2, "worse", pytest.approx(0.05))


def test_one_sample_has_no_interval(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 6, 6)
    (l1, *_) = differences(Pair(first, second), ["test-000002"])
    assert (l1.n, l1.ci_low, l1.ci_high) == (1, None, None)
    assert differences(Pair(first, second), []) == []


@pytest.mark.parametrize("change", ["split", "turns", "instruction", "images", "ids"])
def test_different_data_are_kept_apart(tmp_path: Path, make_evaluation: Make, change: str) -> None:
    first, second, third = evaluations(tmp_path, make_evaluation, 6, 6, 4)
    if change in {"split", "turns"}:
        first.summary["protocol"][change] = "given"
        second.summary["protocol"][change] = "chain"
        third.summary["protocol"][change] = "given"
    elif change == "instruction":
        second.table.loc[2, "instruction"] = "something else"
    elif change == "images":
        second.table.loc[2, "copy_l1"] += 0.01
    else:
        second.table["sample_id"] = "other-" + second.table["sample_id"]
    assert not same_data(first, second)
    assert [[one.name for one in group] for group in group_by_data([first, second, third])] == [
        ["system0", "system2"],
        ["system1"],
    ]


def test_rounding_does_not_make_data_different(tmp_path: Path, make_evaluation: Make) -> None:
    first, second = evaluations(tmp_path, make_evaluation, 6, 4)
    second.table["copy_ssim"] += 2e-6  # batches of another size
    second.table.loc[0, "copy_l1"] = np.nan
    assert same_data(first, second)


def test_many_systems_are_compared_with_the_first(tmp_path: Path, make_evaluation: Make) -> None:
    few = evaluations(tmp_path / "few", make_evaluation, *[3] * MAX_FOR_ALL_PAIRS)
    assert len(choose_pairs(few)) == MAX_FOR_ALL_PAIRS * (MAX_FOR_ALL_PAIRS - 1) // 2
    many = evaluations(tmp_path / "many", make_evaluation, *[3] * (MAX_FOR_ALL_PAIRS + 1))
    assert {pair.first.name for pair in choose_pairs(many)} == {"system0"}
    assert len(choose_pairs(many)) == MAX_FOR_ALL_PAIRS
