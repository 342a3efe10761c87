from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from mgie_lit.report.published import MARKS, rows_for
from mgie_lit.report.read import Evaluation, read_directories
from mgie_lit.report.systems import COPY, data_name, score_systems, systems_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Path]


def evaluations(tmp_path: Path, make: Make, *sizes: int) -> list[Evaluation]:
    folders = [make(tmp_path / f"system{index}", size, pictures=False) for index, size in enumerate(sizes)]
    return read_directories(folders)[1]


def say_data(evaluation: Evaluation, reader: str, turns: str = "given") -> None:
    target = f"mgie_lit.data.readers.{reader}.Reader"
    evaluation.summary["protocol"] |= {"data": {"reader": {"_target_": target}}, "turns": turns, "split": "test"}


def test_best_is_marked_and_what_can_not_be_told_from_it(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 40, 40, 40)
    own = (
        group[0].table["session_id"].map({f"photo-{index}": gap for index, gap in enumerate((-0.02, 0.01, 0.01, 0.02))})
    )
    group[1].table["l1"] = group[0].table["l1"] + own  # worse on average, better on one photograph
    group[2].table["l1"] = group[0].table["l1"] + 0.004  # always a little worse
    scores = score_systems(group, "l1")
    assert {name: score.mark for name, score in scores.items()} == {
        "system0": "best",
        "system1": "tie",
        "system2": "",
        COPY: "",
    }
    assert scores["system2"].mean < scores["system1"].mean  # nearer, and yet told apart: pairs see what means do not
    table = systems_table(group)
    assert [row.cells[0].mark for row in table.rows] == ["best", "tie", "", ""]
    assert [row.kind for row in table.rows] == ["", "", "", "copy"]


def test_the_direction_decides_who_is_best(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 8, 8)
    group[1].table["ssim"] = group[0].table["ssim"] + 0.01
    scores = score_systems(group, "ssim")
    assert (scores["system1"].mark, scores["system0"].mark) == ("best", "")


def test_equal_systems_tie(tmp_path: Path, make_evaluation: Make) -> None:
    marks = {
        name: score.mark for name, score in score_systems(evaluations(tmp_path, make_evaluation, 8, 8), "l1").items()
    }
    assert marks == {"system0": "best", "system1": "tie", COPY: ""}


def test_only_common_samples_are_counted(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 10, 6)
    group[1].table.loc[0, "l1"] = np.nan
    table = systems_table(group)
    assert table.rows[0].cells[-1].value == "5 to 6"
    assert "scored were: system0 10, system1 6" in table.note
    expected = group[0].table["l1"].iloc[1:6].mean()
    assert table.records[0] | {"ci_low": 0, "ci_high": 0, "mark": ""} == {
        "system": "system0",
        "kind": "measured",
        "metric": "l1",
        "mean": pytest.approx(expected),
        "ci_low": 0,
        "ci_high": 0,
        "n": 5,
        "mark": "",
        "source": "",
    }


def test_systems_without_a_common_sample_have_dashes(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 6, 6)
    group[1].table["l1"] = np.nan
    assert score_systems(group, "l1") == {}
    assert systems_table(group).rows[0].cells[0].value == "\N{EN DASH}"


def test_copy_is_a_system_unless_one_is_it(tmp_path: Path, make_evaluation: Make) -> None:
    (alone,) = evaluations(tmp_path, make_evaluation, 6)
    assert [row.label for row in systems_table([alone]).rows] == ["system0", COPY]
    alone.summary["source"] = {"system": "copy"}
    table = systems_table([alone])
    assert [row.label for row in table.rows] == ["system0"]
    assert table.rows[0].cells[0].mark == ""  # nothing to be better than


def test_a_metric_measured_differently_is_left_out(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 6, 6)
    group[1].summary["protocol"]["metrics"]["ssim"]["window"] = 7
    assert set(score_systems(group, "ssim")) == {"system0", COPY}
    assert "measured differently (see protocol): ssim of system1" in systems_table(group).note


def test_few_units_are_told(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 24)
    assert "Intervals rest on 4 independent units" in systems_table(group).note
    group[0].table["session_id"] = group[0].table["sample_id"]
    assert "independent units" not in systems_table(group).note


def test_published_numbers_stand_beside_and_change_nothing(tmp_path: Path, make_evaluation: Make) -> None:
    group = evaluations(tmp_path, make_evaluation, 8, 8)
    before = systems_table(group)
    for one in group:
        say_data(one, "magicbrush")
    table = systems_table(group)
    published = [row for row in table.rows if row.kind == "published"]
    expected = [row for row in rows_for("magicbrush", turns="given") if "l1" in row.scores or "ssim" in row.scores]
    assert len(published) == len(expected) > 0
    assert table.rows[: len(before.rows)] == before.rows
    assert all(cell.mark == "" for row in published for cell in row.cells)
    assert all(row.cells[0].interval in {f"published [{mark}]" for mark in MARKS} for row in published)
    assert "enter no mean, interval or mark" in table.note
    record = next(one for one in table.records if one["kind"] == "published")
    assert record["mean"] == expected[0].scores["l1"].value
    assert expected[0].source.url in str(record["source"])


@pytest.mark.parametrize(("split", "turns", "is_given"), [("val", "given", False), ("test", "chain", True)])
def test_published_rows_are_of_the_same_kind(
    tmp_path: Path, make_evaluation: Make, split: str, turns: str, *, is_given: bool
) -> None:
    (alone,) = evaluations(tmp_path, make_evaluation, 8)
    say_data(alone, "magicbrush", turns)
    alone.summary["protocol"]["split"] = split
    shown = {row.label for row in systems_table([alone]).rows if row.kind == "published"}
    assert bool(shown) is is_given
    assert not any("single-turn" in label for label in shown)


def test_the_data_sets_name(tmp_path: Path, make_evaluation: Make) -> None:
    (alone,) = evaluations(tmp_path, make_evaluation, 3)
    assert data_name(alone) is None
    say_data(alone, "evr")
    assert data_name(alone) == "evr"
    assert systems_table([alone]).title == "evr, test"
