# ruff: noqa: RUF001 - the page has true minus signs and dashes
from __future__ import annotations

from typing import TYPE_CHECKING

from mgie_lit.report.read import read_directories
from mgie_lit.report.tables import comparison, group_tables, metric_rows

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_a_row_a_metric_with_copy_and_difference(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    _, (evaluation,) = read_directories([make_evaluation(tmp_path / "a", 10, pictures=False)])
    l1, ssim, _, expressive = metric_rows(evaluation)
    assert (l1.label, l1.arrow, l1.ratio, l1.count) == ("L1", "↓", "0.20", "10")
    assert (l1.model.value, l1.model.interval) == ("0.0304", "0.0104 to 0.0504")
    assert (l1.difference.value, l1.difference.outcome) == ("−0.1200", "better")
    assert (ssim.arrow, ssim.ratio, ssim.copy.value) == ("↑", "", "0.7000")
    assert (expressive.copy.value, expressive.difference.outcome) == ("–", None)


def test_several_evaluations_stand_side_by_side(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folders = [
        make_evaluation(tmp_path / "a", 10, pictures=False),
        make_evaluation(tmp_path / "b", 5, pictures=False, errors={"l1": 0.1}),
    ]
    _, evaluations = read_directories(folders)
    evaluations[1].summary["metrics"].pop("psnr")
    blocks = {block.label: block for block in comparison(evaluations)}
    assert [cell.outcome for cell in blocks["L1"].difference] == ["better", "worse"]
    assert blocks["L1"].count == ["10", "5"]
    assert [cell.value for cell in blocks["PSNR"].model] == ["22.00", "–"]
    assert blocks["L1"].is_compared
    assert not blocks["Expressive text exact"].is_compared


def test_groups_with_one_value_say_nothing_new(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    _, (evaluation,) = read_directories([make_evaluation(tmp_path / "a", 10, pictures=False)])
    tables = group_tables(evaluation)
    assert [table.attribute for table in tables] == ["operation", "wording"]  # operation first, family left out
    value, count, cells = tables[0].rows[0]
    assert (value, count) == ("brighter", 2)
    assert (cells[0][0].value, cells[0][0].outcome, cells[0][1]) == ("0.0302", "better", "0.1502")
    assert (cells[3][0].outcome, cells[3][1]) == (None, "")


def test_numbers_that_are_missing_are_dashes(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    _, (evaluation,) = read_directories([make_evaluation(tmp_path / "a", 10, pictures=False)])
    evaluation.summary["metrics"]["l1"] = {"mean": None, "ci_low": None, "ci_high": None, "n": 0}
    evaluation.summary["groups"]["operation"]["darker"]["l1"] = None
    assert metric_rows(evaluation)[0].model.value == "–"
    assert metric_rows(evaluation)[0].ratio == ""
    assert group_tables(evaluation)[0].rows[1][2][0][0].value == "–"
