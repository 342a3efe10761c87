"""A whole run in mixed precision, with accumulated gradients and a second logger beside the table."""

from __future__ import annotations

import csv
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mgie_lit.testing.wandb_records import history, records, run_config
from mgie_lit.training.wandb_logger import derived_id, segments

OVERRIDES = (
    "experiment=smoke",
    "trainer.precision=bf16-mixed",
    "trainer.accumulate_grad_batches=2",
    "logger=wandb",
    "trainer.max_steps=2",
    "data.num_examples.val=4",
    "callbacks.evaluate.num_examples=2",
)
pytestmark = pytest.mark.slow  # some 20 CPU seconds
LOSSES = {"train/loss", "train/loss_edit", "train/loss_lm", "val/loss", "val/loss_edit", "val/loss_lm"}


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bf16")
    result = subprocess.run(
        [sys.executable, "-m", "mgie_lit.cli.main", "train", *OVERRIDES, f"paths.run_dir={folder / 'run'}"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return folder / "run"


def test_losses_are_finite(run_dir: Path) -> None:
    with (run_dir / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    losses = [(key, float(value)) for row in rows for key, value in row.items() if key in LOSSES and value]
    assert {key for key, _ in losses} == LOSSES
    assert all(math.isfinite(value) and value > 0 for _, value in losses), losses


def test_max_steps_counts_optimizer_steps(run_dir: Path) -> None:
    checkpoint = torch.load(run_dir / "checkpoints" / "step-00000002.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 2
    states = [state for optimizer in checkpoint["optimizer_states"] for state in optimizer["state"].values()]
    assert {float(state["step"]) for state in states} == {2.0}


def test_weights_are_stored_in_full_precision(run_dir: Path) -> None:
    weights = torch.load(run_dir / "checkpoints" / "step-00000002.ckpt", weights_only=True)["state_dict"]
    assert len(weights) > 100
    assert {name: value.dtype for name, value in weights.items() if value.dtype != torch.float32} == {}


def test_wandb_writes_into_the_run_directory_alone(run_dir: Path) -> None:
    runs = list((run_dir / "wandb").glob("offline-run-*"))
    assert len(runs) == 1
    assert list(runs[0].glob("*.wandb")), "no record of the run"
    assert list(runs[0].glob("files/media/images/val/edits_*.png")), "no pictures"
    assert {path.name for path in run_dir.parent.iterdir()} == {"run"}


def test_resumed_elsewhere_it_is_the_same_run(run_dir: Path, tmp_path: Path) -> None:
    """The id is in the checkpoint; the directory has another name now."""
    moved = tmp_path / "moved"
    shutil.copytree(run_dir, moved)
    result = subprocess.run(
        [sys.executable, "-m", "mgie_lit.cli.main", "train", f"resume={moved}", "trainer.max_steps=3"],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1", "WANDB_MODE": "offline"},
    )
    assert result.returncode == 0, result.stdout + result.stderr
    first, second = segments(moved)
    assert first.name == second.name == f"run-{derived_id(run_dir)}.wandb"
    assert run_config(second)["trainer"]["max_steps"] == 3
    with (moved / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    known = history(first) + history(second)
    assert set(steps) <= {row["trainer/global_step"] for row in known}
    assert [record.WhichOneof("record_type") for record in records(second)].count("exit") == 1
