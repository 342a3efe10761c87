from __future__ import annotations

import numpy as np
import pytest

from mgie_lit.evaluation import intervals
from mgie_lit.evaluation.intervals import Bootstrap, bootstrap_means, choose_units


def slow_means(values: list[list[float]], units: list[str], num_draws: int, seed: int) -> list[list[float]]:
    """Loops over draws, drawn units and rows; takes the same indices from the generator."""
    names = sorted(set(units))
    drawn = np.random.default_rng(seed).integers(len(names), size=(num_draws, len(names)))
    means = []
    for indices in drawn:
        rows = [row for index in indices for row, unit in zip(values, units, strict=True) if unit == names[index]]
        columns = [[value for value in column if value == value] for column in zip(*rows, strict=True)]
        means.append([sum(column) / len(column) if column else float("nan") for column in columns])
    return means


def test_means_equal_a_slow_loop() -> None:
    values = np.random.default_rng(3).normal(size=(23, 3))
    values[[0, 5, 9], 1] = np.nan
    units = [f"unit {index % 7 % 5}" for index in range(23)]
    expected = slow_means(values.tolist(), units, 40, seed=8)
    np.testing.assert_allclose(bootstrap_means(values, units, num_draws=40, seed=8), expected, rtol=1e-12)


def test_blocks_do_not_change_the_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    values, units = np.arange(12.0).reshape(6, 2), list("aabbcd")
    at_once = bootstrap_means(values, units, num_draws=50, seed=1)
    monkeypatch.setattr(intervals, "_BLOCK", 9)
    np.testing.assert_array_equal(bootstrap_means(values, units, num_draws=50, seed=1), at_once)


def test_draw_without_any_score_is_nan() -> None:
    values = np.array([[1.0], [np.nan], [np.nan]])
    means = bootstrap_means(values, list("abc"), num_draws=200, seed=0)
    assert np.isnan(means).any()
    assert set(means[~np.isnan(means)]) == {1.0}


def test_interval_of_independent_samples_is_near_the_normal_one() -> None:
    values = np.random.default_rng(0).normal(5.0, 2.0, size=(400, 1))
    low, high = Bootstrap().intervals(values, [str(index) for index in range(400)])[:, 0]
    error = values.std() / 20.0
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)


def test_clusters_widen_the_interval() -> None:
    rng = np.random.default_rng(1)
    values = (rng.normal(size=(20, 1)).repeat(20, axis=0)) + 0.01 * rng.normal(size=(400, 1))
    alone = Bootstrap().intervals(values, [str(index) for index in range(400)])
    together = Bootstrap().intervals(values, [str(index // 20) for index in range(400)])
    assert np.ptp(together) > 3.0 * np.ptp(alone)


def test_paired_interval_is_narrower_than_that_of_its_parts() -> None:
    rng = np.random.default_rng(2)
    copy = rng.normal(size=200)
    model = copy - 0.1 + 0.01 * rng.normal(size=200)
    ends = Bootstrap().intervals(np.stack([model, copy, model - copy], 1), [str(index) for index in range(200)])
    assert np.ptp(ends[:, 2]) < 0.1 * np.ptp(ends[:, 0])
    assert ends[1, 2] < 0.0


def test_same_seed_same_interval() -> None:
    values, units = np.random.default_rng(0).random((30, 2)), [str(index) for index in range(30)]
    first, again = (Bootstrap(num_draws=100, seed=4).intervals(values, units) for _ in range(2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, Bootstrap(num_draws=100, seed=5).intervals(values, units))


def test_column_without_scores_has_no_interval() -> None:
    ends = Bootstrap(num_draws=10).intervals(np.array([[np.nan, 1.0], [np.nan, 2.0]]), ["a", "b"])
    assert np.isnan(ends[:, 0]).all()
    assert not np.isnan(ends[:, 1]).any()


@pytest.mark.parametrize(("rows", "units"), [(0, []), (2, ["a"])])
def test_rows_and_units_must_agree(rows: int, units: list[str]) -> None:
    with pytest.raises(ValueError, match=rf"bootstrap: expected at least one row and one unit a row, got {rows} rows"):
        bootstrap_means(np.zeros((rows, 1)), units, num_draws=2, seed=0)


def test_rows_of_a_sample_stay_together() -> None:
    assert choose_units(["", "", ""], ["a", "a", "b"]) == ("session", ["sample a", "sample a", "sample b"])


def test_a_session_is_not_mistaken_for_a_sample() -> None:
    assert choose_units(["a", ""], ["b", "a"])[1] == ["session a", "sample a"]


def test_single_session_falls_back_to_samples() -> None:
    unit, units = choose_units(["chat", "chat"], ["a", "b"])
    assert unit == "sample (all rows are of one session)"
    assert units == ["sample a", "sample b"]


def test_description_says_what_was_drawn() -> None:
    described = Bootstrap(num_draws=10, seed=3).describe("session", ["a", "a", "b"])
    assert described == {
        "method": "percentile bootstrap of the mean",
        "unit": "session",
        "num_units": 2,
        "num_draws": 10,
        "seed": 3,
        "level": 0.95,
    }


def test_one_unit_has_no_interval() -> None:
    values = np.array([[0.1, 0.2], [0.3, np.nan], [0.5, np.nan]])
    ends = Bootstrap(num_draws=50).intervals(values, ["a", "b", "b"])
    assert ends[0, 0] < ends[1, 0]
    assert np.isnan(ends[:, 1]).all(), "a single unit says nothing about others"
    assert np.isnan(Bootstrap(num_draws=50).intervals(values[:1], ["a"])).all()
