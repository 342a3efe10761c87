from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

from mgie_lit.training.callbacks.speed import Speed


class Clock:
    """A clock that the test moves, a module that keeps what is logged, a trainer at a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, world_size: int = 1, every: int = 1) -> None:
        self.now = 100.0
        self.logged: list[float] = []
        self.trainer: Any = SimpleNamespace(global_step=0, world_size=world_size, log_every_n_steps=every)
        self.module: Any = SimpleNamespace(log=self._log)
        self.speed = Speed()
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def _log(self, name: str, value: float) -> None:
        assert name == "train/examples_per_second"
        self.logged.append(value)

    def batch(self, seconds: float, size: int = 4) -> None:
        self.now += seconds
        self.trainer.global_step += 1
        self.speed.on_train_batch_end(self.trainer, self.module, None, [None] * size, 0)


def test_examples_by_the_seconds_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for seconds in (9.0, 2.0, 0.5):  # the first only starts the clock
        clock.batch(seconds)
    assert clock.logged == [2.0, 8.0]


def test_batches_between_reports_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, every=3)
    for seconds in (5.0, 1.0, 3.0, 1.0, 1.0, 1.0):
        clock.batch(seconds)
    assert clock.logged == [8 / 4.0, 12 / 3.0]


def test_examples_of_all_ranks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, world_size=3)
    clock.batch(1.0)
    clock.batch(2.0)
    assert clock.logged == [6.0]


@pytest.mark.parametrize("pause", ["validation", "checkpoint"])
def test_pauses_stop_the_clock(pause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.batch(1.0)
    clock.batch(2.0)
    if pause == "validation":
        clock.speed.on_validation_start(clock.trainer, clock.module)
    else:
        clock.speed.on_save_checkpoint(clock.trainer, clock.module, {})
    clock.batch(1000.0)
    clock.batch(2.0)
    assert clock.logged == [2.0, 2.0]
