from __future__ import annotations

import logging
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.functional.operations import OperationCount
from mgie_lit.training.callbacks import throughput
from mgie_lit.training.callbacks.throughput import TIMINGS, Throughput
from mgie_lit.training.module import EditModule
from mgie_lit.types import EditBatch

EXAMPLES, TOKENS, WAITING = "train/examples_per_second", "train/tokens_per_second", "train/time_waiting_share"
FLOPS, SHARE = "train/flops_per_second", "train/flops_per_second_share"


def batch_of(size: int, length: int = 10) -> EditBatch:
    rows = torch.zeros(size, length, dtype=torch.int64)
    return EditBatch([""] * size, [], [], None, None, None, rows, rows, rows, rows)


class Clock:
    """A clock that the test moves, a module that keeps what is logged, a trainer at a step."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, world_size: int = 1, every: int = 1) -> None:
        self.now = 100.0
        self.logged: list[dict[str, float]] = []
        self.trainer: Any = SimpleNamespace(
            global_step=0, world_size=world_size, log_every_n_steps=every, precision="bf16-mixed"
        )
        self.module: Any = SimpleNamespace(
            log_dict=self.logged.append, device=torch.device("cpu"), modules=lambda: iter(())
        )
        self.callback = Throughput()
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def batch(self, seconds: float, size: int = 4, *, waiting: float = 0.0, length: int = 10, width: int = 0) -> None:
        """A batch that is waited for, then computed on: a matrix product of ``2 width^3`` operations."""
        batch = batch_of(size, length)
        self.now += waiting
        self.callback.on_train_batch_start(self.trainer, self.module, batch, 0)
        torch.ones(width, width) @ torch.ones(width, width)
        self.now += seconds - waiting
        self.trainer.global_step += 1
        self.callback.on_train_batch_end(self.trainer, self.module, None, batch, 0)

    def values(self, name: str) -> list[float]:
        return [row[name] for row in self.logged]


def test_examples_and_tokens_by_the_seconds_since_the_last_report(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    for seconds in (9.0, 2.0, 0.5):  # the first only starts the clock
        clock.batch(seconds)
    assert clock.values(EXAMPLES) == [2.0, 8.0]
    assert clock.values(TOKENS) == [20.0, 80.0]


def test_batches_between_reports_are_added_up(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, every=3)
    for seconds in (5.0, 1.0, 3.0, 1.0, 1.0, 1.0):
        clock.batch(seconds)
    assert clock.values(EXAMPLES) == [8 / 4.0, 12 / 3.0]


def test_examples_of_all_ranks_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch, world_size=3)
    clock.batch(1.0)
    clock.batch(2.0)
    assert clock.values(EXAMPLES) == [6.0]


def test_share_of_the_time_that_a_batch_was_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.batch(1.0)
    clock.batch(4.0, waiting=1.0)
    assert clock.values(WAITING) == [0.25]


@pytest.mark.parametrize("pause", ["validation", "checkpoint"])
def test_pauses_stop_the_clock(pause: str, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.batch(1.0)
    clock.batch(2.0)
    if pause == "validation":
        clock.callback.on_validation_start(clock.trainer, clock.module)
    else:
        clock.callback.on_save_checkpoint(clock.trainer, clock.module, {})
    clock.batch(1000.0)
    clock.batch(2.0)
    assert clock.values(EXAMPLES) == [2.0, 2.0]


def test_operations_of_each_shape_are_counted_once(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    clock.batch(1.0, width=2)  # 16 operations
    clock.batch(2.0, width=9)  # the same shape: not counted again
    clock.batch(2.0, length=30, width=4)  # another one: 128
    monkeypatch.setattr(throughput, "MAX_COUNTED", 2)
    clock.batch(2.0, length=29, width=9)  # taken for its neighbour
    assert clock.values(FLOPS) == [8.0, 64.0, 64.0]
    assert SHARE not in clock.logged[0], "a CPU's peak is not known"


def test_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "NVIDIA H100 80GB HBM3")
    device = torch.device("cuda")
    assert throughput._peak(device, "bf16-mixed") == 989e12
    assert throughput._peak(device, "32-true") == 67e12
    assert throughput._peak(torch.device("cpu"), "32-true") is None


def test_operations_are_those_of_forward_and_backward_and_move_nothing() -> None:
    weight = torch.ones(3, 4, requires_grad=True)
    with OperationCount() as count:
        (torch.ones(2, 3) @ weight).sum().backward()  # type: ignore[no-untyped-call]
    assert count.total == 2 * (2 * 2 * 3 * 4), "the input needs no gradient"


def test_training_logs_them_and_says_how_it_went(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
    caplog: pytest.LogCaptureFixture,
) -> None:
    weights = []
    for callbacks in ([], [Throughput()]):
        module = make_module()
        trainer = make_trainer(max_steps=3, callbacks=callbacks, limit_val_batches=0)
        with caplog.at_level(logging.INFO, logger="mgie_lit"):
            trainer.fit(module, datamodule=make_data(module))
        weights.append(module.state_dict())
    assert all(torch.equal(value, weights[1][name]) for name, value in weights[0].items()), "counting moves nothing"
    logged = {name for name in trainer.callback_metrics if name in TIMINGS}
    assert logged == {EXAMPLES, TOKENS, FLOPS, WAITING}
    said = [record.getMessage() for record in caplog.records if "throughput" in record.getMessage()]
    assert len(said) == 1
    assert "3 steps" in said[0]
    assert "operations/s" in said[0]
