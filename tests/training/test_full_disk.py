"""A disk that is full: the message says what was missing, and what lay there before is whole."""

from __future__ import annotations

import csv
import os
import resource
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.checkpoints.disk import content_bytes, full_disk_named
from mgie_lit.checkpoints.integrity import is_whole
from mgie_lit.checkpoints.runs import find_checkpoint
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.errors import TrainingError
from mgie_lit.evaluation.grid import GridRow
from mgie_lit.training.callbacks.checkpoint import StepCheckpoint
from mgie_lit.training.callbacks.evaluate import EvaluateEdits
from mgie_lit.training.checkpoint_io import CheckedCheckpointIO
from mgie_lit.training.csv_logger import CSVLogger
from mgie_lit.training.module import EditModule

pytestmark = pytest.mark.faults


@contextmanager
def largest_file(num_bytes: int) -> Iterator[None]:
    """No file can grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 10 MB: room for two checkpoints."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=10m", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, check=False, capture_output=True).returncode != 0:
        pytest.skip("can not mount a disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.parametrize("size", [400_000, 130_000], ids=["in a tensor", "at the end"])
def test_checkpoint_that_has_no_room(size: int, tmp_path: Path) -> None:
    """Torch's writer hides the system's error behind one of its own."""
    old, new = tmp_path / "step-1.ckpt", tmp_path / "step-2.ckpt"
    CheckedCheckpointIO().save_checkpoint({"state_dict": {"a": torch.ones(9)}}, old)
    content = {"state_dict": {"a": torch.ones(size // 4)}}
    expected = rf"{new}: expected room for {size:,} bytes, got: File too large \(its disk has [\d,]+ bytes free;.*\)"
    with pytest.raises(TrainingError, match=rf"{expected}.* whole: {old}\. Make room, then"), largest_file(130_000):
        CheckedCheckpointIO().save_checkpoint(content, new)
    assert {path.name for path in tmp_path.iterdir()} == {old.name, f"{old.name}.sha256"}
    assert is_whole(old)


def test_row_that_has_no_room_leaves_no_half(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"a": 0.1}, step=1)
    size = logger.path.stat().st_size
    with (
        pytest.raises(TrainingError, match=r"metrics\.csv: expected room, got: File too large"),
        largest_file(size + 4),
    ):
        logger.log_metrics({"a": 0.2}, step=2)
    with pytest.raises(TrainingError, match=r"metrics\.csv: expected room"), largest_file(size + 4):
        logger.log_metrics({"b": 0.2}, step=3)  # a new column rewrites the table
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.csv"}
    with logger.path.open(newline="") as file:
        assert list(csv.DictReader(file)) == [{"step": "1", "epoch": "", "a": "0.1"}]


def test_picture_that_has_no_room_leaves_no_half(tmp_path: Path) -> None:
    callback = EvaluateEdits({}, options=None, run_dir=tmp_path, num_examples=1, num_images=1)  # type: ignore[arg-type]
    noise = np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8)
    trainer: Any = SimpleNamespace(global_step=7, loggers=[])
    with pytest.raises(TrainingError, match=r"step-00000007\.png: expected room, got: File"), largest_file(50_000):
        callback._show(trainer, [GridRow(Image.fromarray(noise), None, None, "make it bright")])
    assert list((tmp_path / "images").iterdir()) == []


def test_training_on_a_full_disk_goes_on_when_there_is_room(
    small_disk: Path,
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
) -> None:
    def train(resume: Path | None = None) -> None:
        module = make_module()
        checkpoints = StepCheckpoint(
            small_disk / "checkpoints",
            "step-{step}",
            auto_insert_metric_name=False,
            every_n_train_steps=1,
            save_top_k=-1,
        )
        trainer = make_trainer(
            max_steps=4,
            callbacks=[checkpoints],
            plugins=[CheckedCheckpointIO()],
            enable_checkpointing=True,
            limit_val_batches=0,
        )
        trainer.fit(module, datamodule=make_data(module), ckpt_path=resume, weights_only=True)

    with pytest.raises(TrainingError, match=r"step-3\.ckpt: expected room for .* No space left on device .* is whole"):
        train()
    kept = find_checkpoint(small_disk)
    assert kept.name == "step-2.ckpt"
    assert not list((small_disk / "checkpoints").glob("*.part"))
    subprocess.run(["mount", "-o", "remount,size=40m", str(small_disk)], check=True)
    train(kept)
    assert find_checkpoint(small_disk).name == "step-4.ckpt"


def test_other_errors_pass(tmp_path: Path) -> None:
    with pytest.raises(PermissionError), full_disk_named(tmp_path / "a"):
        raise PermissionError(13, "Permission denied")
    with pytest.raises(RuntimeError, match="shape"), full_disk_named(tmp_path / "a"):
        raise RuntimeError("shape")


def test_bytes_of_a_nest() -> None:
    nest = {"a": torch.zeros(3, 4), "b": [torch.zeros(2, dtype=torch.int64), ("text", 7)], "c": None}
    assert content_bytes(nest) == 48 + 16
