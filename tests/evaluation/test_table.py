from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from mgie_lit.errors import DataError
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.scoring import ScoredEdit
from mgie_lit.evaluation.table import make_row, make_table, plain_mean, summarise, write_table
from mgie_lit.types import EditedImage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAN = float("nan")


def rows(*samples: str, seeds: tuple[int, ...] = (0,)) -> list[dict[str, Any]]:
    return [{"sample_id": sample, "seed": seed, "l1": 0.5} for sample in samples for seed in seeds]


def table(**columns: list[Any]) -> pd.DataFrame:
    count = len(columns["l1"])
    ids = [f"s{index}" for index in range(count)]
    return pd.DataFrame({"sample_id": ids, "seed": 0, "session_id": "", **columns})


def test_row_holds_everything_known_of_a_sample(make_dataset: Callable[..., Any]) -> None:
    example = make_dataset(10, sessions=["chat"]).examples[0]
    edit = ScoredEdit(example, 3, EditedImage(example.source, "written"), {"l1": 0.1, "exact": 0.0}, {"l1": 0.2})
    assert make_row(edit, "images/s0.png") == {
        "sample_id": "s0",
        "seed": 3,
        "session_id": "chat",
        "turn": 1,
        "l1": 0.1,
        "exact": 0.0,
        "copy_l1": 0.2,
        "instruction": "make it gray 10",
        "expressive_instruction": "written",
        "expressive_target": "It gets gray 10.",
        "image_path": "images/s0.png",
        "kind": "even",
        "place": "p0",
    }


def test_attribute_with_the_name_of_a_column_is_an_error(make_dataset: Callable[..., Any]) -> None:
    example = make_dataset(10).examples[0]
    edit = ScoredEdit(example, 0, None, {"kind": 0.1}, {})
    with pytest.raises(DataError, match="s0: expected attributes with names of their own, got kind, which the table"):
        make_row(edit, None)


def test_table_is_ordered_by_seed_then_sample() -> None:
    made = make_table(rows("b", "a", seeds=(7, 2)), num_samples=2, seeds=(7, 2))
    assert list(zip(made["sample_id"], made["seed"], strict=True)) == [("b", 7), ("a", 7), ("b", 2), ("a", 2)]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], r"2 x 1 = 2, got 0 with 0 repeated"),
        (rows("a"), r"2 x 1 = 2, got 1 with 0 repeated"),
        (rows("a", "a"), r"2 x 1 = 2, got 2 with 1 repeated"),
        (rows("a", "b", "c"), r"2 x 1 = 2, got 3 with 0 repeated"),
    ],
)
def test_row_count_is_checked(given: list[dict[str, Any]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        make_table(given, num_samples=2, seeds=(0,))


def test_no_samples_at_all_is_an_error() -> None:
    with pytest.raises(DataError, match="0 x 1 = 0, got 0"):
        make_table([], num_samples=0, seeds=(0,))


def test_table_survives_its_file(tmp_path: Path) -> None:
    made = pd.DataFrame([{"sample_id": "a", "l1": 0.1, "image_path": None}, {"sample_id": "b", "l1": NAN, "kind": "x"}])
    write_table(made, tmp_path / "per_sample.parquet")
    read = pd.read_parquet(tmp_path / "per_sample.parquet")
    pd.testing.assert_frame_equal(read, made)
    assert [path.name for path in tmp_path.iterdir()] == ["per_sample.parquet"]


def test_summary_of_means_pairs_and_groups() -> None:
    made = table(
        l1=[0.1, 0.3, NAN, 0.2],
        copy_l1=[0.2, 0.2, NAN, 0.8],
        exact=[1.0, 0.0, 1.0, NAN],
        kind=["x", "y", "x", None],
    )
    summary, intervals = summarise(made, ["l1", "exact"], ["kind"], Bootstrap(num_draws=200))
    assert set(summary) == {"metrics", "copy", "paired_vs_copy", "groups"}
    assert summary["metrics"]["l1"]["mean"] == pytest.approx(0.2)
    assert summary["metrics"]["l1"]["n"] == 3
    assert summary["metrics"]["exact"]["mean"] == pytest.approx(2 / 3)
    assert set(summary["copy"]) == set(summary["paired_vs_copy"]) == {"l1"}
    assert summary["copy"]["l1"]["mean"] == pytest.approx(0.4)
    assert summary["paired_vs_copy"]["l1"]["mean"] == pytest.approx(-0.2)
    assert set(summary["paired_vs_copy"]["l1"]) == {"mean", "ci_low", "ci_high"}
    assert summary["groups"]["kind"]["x"] == {"l1": 0.1, "copy_l1": 0.2, "exact": 1.0, "n": 2}
    assert summary["groups"]["kind"]["y"] == {"l1": 0.3, "copy_l1": 0.2, "exact": 0.0, "n": 1}
    assert intervals["unit"] == "session"
    assert intervals["num_units"] == 4


def test_intervals_are_those_of_the_bootstrap() -> None:
    rng = np.random.default_rng(0)
    model, copy = rng.random(30), rng.random(30)
    bootstrap = Bootstrap(num_draws=300, seed=2)
    made = table(l1=model.tolist(), copy_l1=copy.tolist())
    summary, _ = summarise(made, ["l1"], [], bootstrap)
    units = [f"sample s{index}" for index in range(30)]
    expected = bootstrap.intervals(np.stack([model, copy, model - copy], 1), units)
    for column, part in enumerate(("metrics", "copy", "paired_vs_copy")):
        assert [summary[part]["l1"][key] for key in ("ci_low", "ci_high")] == pytest.approx(
            expected[:, column].tolist()
        )


def test_sessions_are_the_units() -> None:
    made = table(l1=[0.1, 0.2, 0.3]).assign(session_id=["a", "a", "b"])
    assert summarise(made, ["l1"], [], Bootstrap(num_draws=10))[1]["num_units"] == 2


def test_metric_that_applies_nowhere_is_null() -> None:
    summary, _ = summarise(table(l1=[NAN, NAN]), ["l1"], [], Bootstrap(num_draws=10))
    assert summary["metrics"]["l1"] == {"mean": None, "ci_low": None, "ci_high": None, "n": 0}


def test_attribute_with_too_many_values_is_no_grouping() -> None:
    made = table(l1=[0.5] * 101, kind=["x"] * 101, name=[f"n{index}" for index in range(101)], empty=[None] * 101)
    summary, _ = summarise(made, ["l1"], ["kind", "name", "empty"], Bootstrap(num_draws=2))
    assert list(summary["groups"]) == ["kind"]


def test_plain_mean_leaves_nan_out() -> None:
    assert plain_mean(np.array([1.0, NAN, 2.0])) == 1.5
    assert plain_mean(np.array([NAN])) is None
