"""A run that was interrupted and resumed equals one that was not, to the last bit."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.csv_logger import CSVLogger
from mgie_lit.training.module import EditModule

MAX_STEPS = 5  # of 3 an epoch: resuming in the middle, at the end and after the end of an epoch

Fit = Callable[..., tuple[EditModule, lightning.Trainer]]


@pytest.fixture
def fit(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
) -> Fit:
    """Trains in a run directory; with ``resume``, on from the checkpoint of that step."""

    def train(run_dir: Path, *, resume: int | None = None, seed: int = 0, **changes: Any) -> Any:  # noqa: ANN401
        module = make_module(editor=tiny_editor("kl", seed=seed))
        checkpoints = ModelCheckpoint(
            run_dir / "checkpoints",
            "step-{step}",
            auto_insert_metric_name=False,
            every_n_train_steps=1,
            save_top_k=-1,
        )
        trainer = make_trainer(
            **{"max_steps": MAX_STEPS, "val_check_interval": 2} | changes,
            enable_checkpointing=True,
            logger=CSVLogger(run_dir, resume_step=resume),
            callbacks=[checkpoints],
        )
        checkpoint = None if resume is None else run_dir / "checkpoints" / f"step-{resume}.ckpt"
        trainer.fit(module, datamodule=make_data(module), ckpt_path=checkpoint, weights_only=True)
        return module, trainer

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
    return checkpoint


def compare(straight: Path, resumed: Path, steps: range) -> None:
    """Weights, optimizer, schedule and data position of every later checkpoint, and the whole table."""
    assert len(steps) > 0
    for step in steps:
        first, second = load(straight, step), load(resumed, step)
        for key in ("global_step", "epoch", "state_dict", "optimizer_states", "lr_schedulers", "EditDataModule"):
            assert_equal(first[key], second[key], f"step {step}: {key}")
    assert (resumed / "metrics.csv").read_text() == (straight / "metrics.csv").read_text()


def test_straight_equals_resumed_from_any_step(fit: Fit, tmp_path: Path) -> None:
    """The interrupted run had gone on after its checkpoint: later rows of the table are cut."""
    straight = tmp_path / "straight"
    fit(straight)
    assert {len(line.split(",")) for line in (straight / "metrics.csv").read_text().splitlines()} == {13}
    for step in (2, 3, 4):
        resumed = tmp_path / f"resumed-{step}"
        shutil.copytree(straight, resumed)
        for later in range(step + 1, MAX_STEPS + 1):
            (resumed / "checkpoints" / f"step-{later}.ckpt").unlink()
        fit(resumed, resume=step, seed=99)  # other weights, until the checkpoint replaces them
        compare(straight, resumed, range(step + 1, MAX_STEPS + 1))


def test_accumulated_gradients_resume_alike(fit: Fit, tmp_path: Path) -> None:
    """Checkpoints lie between optimizer steps, so that no half-summed gradient is lost."""
    straight, resumed = tmp_path / "straight", tmp_path / "resumed"
    _, trainer = fit(straight, max_steps=4, accumulate_grad_batches=2, limit_val_batches=0)
    assert trainer.fit_loop.total_batch_idx + 1 == 6, "two steps of 2 + 1 batches in each of two epochs"
    shutil.copytree(straight, resumed)
    fit(resumed, resume=1, seed=99, max_steps=4, accumulate_grad_batches=2, limit_val_batches=0)
    compare(straight, resumed, range(2, 5))


def test_two_runs_of_one_seed_are_equal_and_another_seed_differs(fit: Fit, tmp_path: Path) -> None:
    """Without this, equality after resuming would mean little."""
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        torch.manual_seed(len(name))  # the global state plays no part
        fit(tmp_path / name, seed=seed, max_steps=2, limit_val_batches=0)
    compare(tmp_path / "first", tmp_path / "second", range(1, 3))
    assert (tmp_path / "first/metrics.csv").read_text() != (tmp_path / "third/metrics.csv").read_text()
