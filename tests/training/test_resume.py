"""A run that was interrupted and resumed equals one that was not, to the last bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.callbacks.checkpoint import StepCheckpoint
from mgie_lit.training.callbacks.ema import ExponentialMovingAverage
from mgie_lit.training.callbacks.random_state import RandomStates
from mgie_lit.training.csv_logger import CSVLogger, read_table
from mgie_lit.training.module import EditModule

MAX_STEPS = 5  # of 3 an epoch: resuming in the middle, at the end and after the end of an epoch
COMPARED = (
    "global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "EditDataModule", "mgie_ema",
    "mgie_random_states", "mgie_owed", "epoch_progress", "batch_progress",
)  # fmt: skip

Fit = Callable[..., lightning.Trainer]


class DrawsWhileValidating(lightning.Callback):
    """As a metric of somebody's own might, from the process's generator."""

    def on_validation_end(self, *_: Any) -> None:  # noqa: ANN401
        torch.rand(3)


@pytest.fixture
def fit(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
) -> Fit:
    """Trains in a run directory; with ``resume``, on from the checkpoint of that step."""

    def train(
        run_dir: Path,
        *,
        resume: int | None = None,
        seed: int = 0,
        data: dict[str, Any] | None = None,
        monitor: str | None = None,
        **changes: Any,  # noqa: ANN401
    ) -> lightning.Trainer:
        module = make_module(editor=tiny_editor("kl", seed=seed))
        checkpoints = StepCheckpoint(
            run_dir / "checkpoints",
            "step-{step}",
            auto_insert_metric_name=False,
            every_n_train_steps=1,
            save_top_k=-1,
            monitor=monitor,
        )
        trainer = make_trainer(
            **{"max_steps": MAX_STEPS, "val_check_interval": 2, "check_val_every_n_epoch": None} | changes,
            enable_checkpointing=True,
            logger=CSVLogger(run_dir, resume_step=resume),
            callbacks=[checkpoints, RandomStates(), ExponentialMovingAverage(0.9), DrawsWhileValidating()],
        )
        accumulation = changes.get("accumulate_grad_batches", 1)
        checkpoint = None if resume is None else run_dir / "checkpoints" / f"step-{resume}.ckpt"
        datamodule = make_data(module, accumulation=accumulation, **data or {})
        trainer.fit(module, datamodule=datamodule, ckpt_path=checkpoint, weights_only=True)
        return trainer

    return train


def assert_equal(first: Any, second: Any, path: str = "") -> None:  # noqa: ANN401
    """Two nests of containers and tensors are equal to the last bit."""
    assert type(first) is type(second), path
    if isinstance(first, dict):
        assert first.keys() == second.keys(), path
        for key, value in first.items():
            assert_equal(value, second[key], f"{path}/{key}")
    elif isinstance(first, list | tuple):
        assert len(first) == len(second), path
        for index, value in enumerate(first):
            assert_equal(value, second[index], f"{path}/{index}")
    elif isinstance(first, torch.Tensor):
        assert torch.equal(first, second), path
    else:
        assert first == second, path


def load(run_dir: Path, step: int) -> dict[str, Any]:
    checkpoint: dict[str, Any] = torch.load(run_dir / "checkpoints" / f"step-{step}.ckpt", weights_only=True)
    for states in checkpoint["mgie_random_states"]:
        del states["python"]  # beartype, active in tests, draws from this generator
    return checkpoint


def compare(straight: Path, resumed: Path, steps: range) -> None:
    """Weights, average, optimizer, schedule, position, generators of every later checkpoint, and the whole table."""
    assert len(steps) > 0
    for step in steps:
        first, second = load(straight, step), load(resumed, step)
        for content in (first, second):
            content["epoch_progress"] = content["loops"]["fit_loop"]["epoch_progress"]
            content["batch_progress"] = content["loops"]["fit_loop"]["epoch_loop.batch_progress"]
        for key in COMPARED:
            assert_equal(first[key], second[key], f"step {step}: {key}")
    assert (resumed / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()
    assert {path.name for path in resumed.rglob("*.*")} == {path.name for path in straight.rglob("*.*")}


def killed_at(straight: Path, step: int, target: Path) -> Path:
    """The directory of a run that was killed after the checkpoint of some step; its table may hold later rows."""
    shutil.copytree(straight, target)
    for path in (target / "checkpoints").iterdir():
        if int(path.name.removeprefix("step-").partition(".")[0]) > step:
            path.unlink()
    return target


@pytest.mark.parametrize(
    ("settings", "num_workers"),
    [
        ({}, 0),
        ({"accumulate_grad_batches": 2}, 2),
        *(
            pytest.param(settings, num_workers, marks=pytest.mark.slow)
            for settings, num_workers in (({}, 2), ({"accumulate_grad_batches": 2}, 0), ({"limit_val_batches": 0}, 2))
        ),
    ],
)
def test_straight_equals_resumed_from_any_step(
    settings: dict[str, Any], num_workers: int, fit: Fit, tmp_path: Path
) -> None:
    """Loader processes that read ahead, a window of accumulated gradients, epochs that end at a checkpoint."""
    straight = tmp_path / "straight"
    data = {
        "num_workers": num_workers,
        "num_examples": {"train": 13 if settings.get("accumulate_grad_batches") else 7, "val": 3},
    }
    trainer = fit(straight, data=data, **settings)
    assert trainer.current_epoch == 2, "counted when an epoch ends, also by max_steps"
    for step in range(1, MAX_STEPS) if num_workers == 0 else (2, 3):
        resumed = killed_at(straight, step, tmp_path / f"resumed-{step}")
        fit(resumed, resume=step, seed=99, data=data, **settings)  # other weights, until the checkpoint replaces them
        compare(straight, resumed, range(step + 1, MAX_STEPS + 1))


@pytest.mark.parametrize("step", [pytest.param(2, marks=pytest.mark.slow), 4, 5])
@pytest.mark.parametrize("lost", ["validation", "row and validation", "nothing"])
def test_what_a_step_owed_is_done_first(lost: str, step: int, fit: Fit, tmp_path: Path) -> None:
    """Killed right after a checkpoint, before the row of its step or the validation that was due; the last step too."""
    straight = tmp_path / "straight"
    settings = {"val_check_interval": 2 if step < 5 else 5}
    fit(straight, **settings)
    resumed = killed_at(straight, step, tmp_path / "resumed")
    table = resumed / "metrics.csv"
    lines = table.read_text().splitlines(keepends=True)
    last = [index for index, line in enumerate(lines) if line.startswith(f"{step - 1},")]
    assert len(last) == 2, "a training row and one of the validation"
    cut = {"nothing": last[1] + 1, "validation": last[1], "row and validation": last[0]}[lost]
    half = "" if lost == "nothing" else lines[cut][: len(lines[cut]) // 2]
    table.write_text("".join([*lines[:cut], half]))
    trainer = fit(resumed, resume=step, seed=99, **settings)
    assert (resumed / "metrics.csv").read_text() == "".join(lines)
    if step < MAX_STEPS:
        compare(straight, resumed, range(step + 1, MAX_STEPS + 1))
    elif lost != "nothing":
        rows = read_table(straight / "metrics.csv")[1]
        assert repr(float(trainer.callback_metrics["val/loss"])) == rows[-1]["val/loss"]


def test_checkpoints_of_a_monitored_value_resume_alike(fit: Fit, tmp_path: Path) -> None:
    """These are written when the validation has ended."""
    straight = tmp_path / "straight"
    fit(straight, monitor="val/loss")
    names = [path.name for path in sorted((straight / "checkpoints").glob("*.ckpt"))]
    assert names == ["step-2.ckpt", "step-4.ckpt", "step-5.ckpt"]
    for step, later in ((2, range(4, 6)), (4, range(5, 6))):
        resumed = killed_at(straight, step, tmp_path / f"resumed-{step}")
        fit(resumed, resume=step, seed=99, monitor="val/loss")
        compare(straight, resumed, later)


@pytest.mark.parametrize(
    ("num_examples", "first", "second", "num_workers"),
    [
        (5, 2, 4, 1),
        (7, 2, 3, 0),
        *(pytest.param(*values, marks=pytest.mark.slow) for values in ((5, 2, 4, 0), (7, 3, 4, 1), (2, 2, 3, 1))),
    ],
)
def test_a_resumed_run_is_resumed(
    num_examples: int, first: int, second: int, num_workers: int, fit: Fit, tmp_path: Path
) -> None:
    """In the middle of an epoch and at its end, in any order."""
    settings: dict[str, Any] = {"data": {"num_examples": {"train": num_examples, "val": 3}, "num_workers": num_workers}}
    settings["limit_val_batches"] = 0
    straight = tmp_path / "straight"
    fit(straight, **settings)
    once = killed_at(straight, first, tmp_path / "once")
    fit(once, resume=first, **settings)
    twice = killed_at(once, second, tmp_path / "twice")
    fit(twice, resume=second, **settings)
    compare(straight, twice, range(second + 1, MAX_STEPS + 1))


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(fit: Fit, tmp_path: Path) -> None:
    """Without this, equality after resuming would mean little."""
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        fit(tmp_path / name, seed=seed, max_steps=2, limit_val_batches=0)
    for name in ("first", "second"):
        assert_equal(load(tmp_path / name, 2)["state_dict"], load(tmp_path / "first", 2)["state_dict"])
    assert (tmp_path / "first/metrics.csv").read_text() == (tmp_path / "second/metrics.csv").read_text()
    assert (tmp_path / "first/metrics.csv").read_text() != (tmp_path / "third/metrics.csv").read_text()


def test_a_larger_step_after_the_resume_leaves_no_file_in_its_middle(fit: Fit, tmp_path: Path) -> None:
    """The first batch after a resume belongs to a step that is not complete: nothing may be saved there."""
    straight = tmp_path / "straight"
    settings = {"accumulate_grad_batches": 2, "data": {"num_examples": {"train": 13, "val": 3}}}
    fit(straight, **settings)
    resumed = killed_at(straight, 2, tmp_path / "resumed")
    before = (resumed / "checkpoints" / "step-2.ckpt").read_bytes()
    fit(resumed, resume=2, **settings)
    assert (resumed / "checkpoints" / "step-2.ckpt").read_bytes() == before
