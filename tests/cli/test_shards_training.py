"""Whole trainings on tar shards and parquet files, stopped in the middle of an epoch."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pyarrow.parquet as pq
import pytest
import torch

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.testing.datasets import write_imagefolder, write_ipr2pr_columns

pytestmark = pytest.mark.slow

NUM_EXAMPLES = 20  # 5 steps of 4 an epoch
TRAIN = ("data=shards", "experiment=smoke", "data.root=shards", "callbacks.evaluate=null", "data.block_size=3")
SIZES = ("data.window=2", "data.batch_size=2", "trainer.max_steps=7", "callbacks.checkpoint.every_n_train_steps=1")
ONE = ("trainer.accumulate_grad_batches=2",)
TWO = ("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")

Mgie = Callable[..., CompletedProcess[str]]


@pytest.fixture
def train(mgie: Mgie, workplace: Path) -> Callable[..., Path]:
    """Trains in a run directory, or goes on in it; gives its path."""
    write_imagefolder(workplace / "pairs", num_examples=NUM_EXAMPLES)
    datasets = {split: ImageFolder(split, root=workplace / "pairs") for split in ("train", "val")}
    write_shards(workplace / "shards", datasets, {}, max_bytes=20480)
    assert len(list((workplace / "shards").glob("*.tar"))) > 3

    def run(name: str, *overrides: str, resume: bool = False) -> Path:
        start = [f"resume={name}"] if resume else [*TRAIN, *SIZES, "data.num_examples.val=4", f"paths.run_dir={name}"]
        result = mgie("train", *start, *overrides)
        assert result.returncode == 0, result.stderr
        return workplace / name

    return run


def weights(run_dir: Path, step: int) -> dict[str, torch.Tensor]:
    path = run_dir / "checkpoints" / f"step-{step:08d}.ckpt"
    content: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return content


def distance(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> float:
    """Euclidean, over all weights."""
    return float(torch.stack([(first[name] - second[name]).float().norm() for name in first]).norm())


def losses(run_dir: Path) -> list[float]:
    with (run_dir / "metrics.csv").open() as file:
        return [float(row["train/loss"]) for row in csv.DictReader(file) if row["train/loss"]]


def stop_after(run_dir: Path, step: int) -> Path:
    """Make a run what it was after a step; gives a copy of what it had become."""
    copy = run_dir.with_name("straight")
    shutil.copytree(run_dir, copy)
    for path in (run_dir / "checkpoints").iterdir():
        if int(path.name[5:13]) > step:
            path.unlink()
    return copy


@pytest.mark.parametrize("processes", [ONE, TWO], ids=["one process", "two"])
def test_resumed_in_an_epoch_equals_the_straight_run(train: Callable[..., Path], processes: tuple[str, ...]) -> None:
    straight = stop_after(train("run", *processes), 3)
    resumed = train("run", resume=True)
    first, second = weights(straight, 7), weights(resumed, 7)
    assert first.keys() == second.keys()
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert losses(resumed) == losses(straight)
    assert len(losses(straight)) == 7


def test_another_number_of_processes_goes_on_with_the_same_examples(train: Callable[..., Path]) -> None:
    """Steps of 4 examples by two processes, then by one with two batches a step."""
    straight = stop_after(train("run", *TWO), 3)
    resumed = train("run", "trainer.devices=1", "trainer.accumulate_grad_batches=2", resume=True)
    first, second = weights(straight, 7), weights(resumed, 7)
    assert distance(first, second) < 0.02 * distance(first, weights(straight, 3))


def test_streamed_parquet_resumes_in_an_epoch(mgie: Mgie, workplace: Path) -> None:
    write_ipr2pr_columns(workplace / "pairs", num_prompts=NUM_EXAMPLES)
    for file in workplace.glob("pairs/data/*.parquet"):
        pq.write_table(pq.read_table(file), file, row_group_size=3)
    start = ("experiment=smoke", "data=ipr2pr", "data.root=pairs", "data.expressive=instruction", "data.streaming=true")
    sizes = (*SIZES[1:], "data.num_workers=2", "callbacks.evaluate=null", "paths.run_dir=run")
    result = mgie("train", *start, *sizes)
    assert result.returncode == 0, result.stderr
    straight = stop_after(workplace / "run", 3)
    result = mgie("train", "resume=run")
    assert result.returncode == 0, result.stderr
    first, second = weights(straight, 7), weights(workplace / "run", 7)
    assert [name for name in first if not torch.equal(first[name], second[name])] == []
    assert losses(workplace / "run") == losses(straight)
    assert not list(workplace.glob("pairs/**/*.arrow")), "nothing is converted"
