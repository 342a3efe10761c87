from __future__ import annotations

from pathlib import Path

import pytest
import reference_step
import torch
import train_step
from parity_checks.bundle import Bundle
from parity_checks.yardstick import check_yardstick


@pytest.fixture(scope="module")
def case() -> train_step.Case:
    return train_step.make_case("tiny", 3, "cpu")


def test_yardstick_agrees_with_the_recording(recorded: Path) -> None:
    table = check_yardstick(Bundle(recorded))
    assert [row for row in table.rows if row.status == "failed"] == []
    compared = {row.group for row in table.rows if row.status == "ok"}
    assert {"step v4_edge", "edit B_img_eos", "edit I_slow_img_eos"} <= compared


def test_a_mistake_of_the_yardstick_is_seen(recorded: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reference_step, "EDIT_WEIGHT", 0.6)
    failed = [row.check for row in check_yardstick(Bundle(recorded)).rows if row.status == "failed"]
    assert "loss" in failed


def test_our_gradients_are_the_plain_step_s(case: train_step.Case) -> None:
    for ours in (train_step.our_step(case), train_step.our_step(case, cached=True)):
        apart, where = train_step.largest_difference(case, ours, train_step.plain_step(case))
        assert apart < train_step.TOLERANCE, where


@pytest.mark.parametrize("name", train_step.SWITCHES)
def test_every_switch_alone_gives_the_same_gradients(case: train_step.Case, name: str) -> None:
    apart, where = train_step.largest_difference(case, train_step.plain_step(case, [name]), train_step.plain_step(case))
    assert apart < train_step.TOLERANCE, where


def test_measurement_has_what_its_readers_expect(case: train_step.Case) -> None:
    torch.set_num_threads(1)
    times = train_step.measure(case, rounds=1)
    result = train_step.report(case, "tiny", times, 0.0, {"ours": 1, "yardstick": 2, "nothing": 0})
    assert set(result["ratio"]) == {"median", "p10", "p90"}
    assert set(result["cpu_s"]) == {"ours", "yardstick"}
    assert [row["name"] for row in result["switches"]] == list(train_step.SWITCHES)
    assert result["ratio"]["median"] == pytest.approx(result["cpu_s"]["ours"] / result["cpu_s"]["yardstick"], rel=0.01)
    assert case.editor.guide.train_embeddings == "all"
    assert "| caches, new rows |" in train_step.render(result)
