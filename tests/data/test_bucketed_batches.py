"""Batches of pictures that keep about their shape: from files through loader and cache to a training."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from PIL import Image

from mgie_lit.data.buckets import BucketTransform, bucket_sizes
from mgie_lit.data.cache.opened import Cache, open_cache
from mgie_lit.data.cache.recipe import Recipe, recipes_of
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.editor import Editor, Objective
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.models.freezing import set_trainable
from mgie_lit.prepare.cache import Encoder, build_cache
from mgie_lit.testing.datasets import write_imagefolder
from mgie_lit.testing.random_data import RandomDataset, random_image, tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.module import EditModule
from mgie_lit.training.optim import adamw, warmup_cosine
from mgie_lit.types import EditBatch

NUM_EXAMPLES, BATCH_SIZE = 18, 2
SIZES = [(40, 20), (20, 40), (30, 30)]  # wide, tall, square: 6 of each
BUCKETS = bucket_sizes(16, 2.0, 4)
TRAINED = ["guide.edit_head.*", "unet.*"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unequal")
    write_imagefolder(folder, num_examples=NUM_EXAMPLES)
    for number in range(NUM_EXAMPLES):
        for kind in ("sources", "targets"):
            path = folder / kind / f"photo-{number:03d}.png"
            Image.open(path).resize(SIZES[number % 3]).save(path)
    return folder


@pytest.fixture
def editor() -> Editor:
    return tiny_editor("kl")


def bucketed(editor: Editor) -> EditCollator:
    collator = tiny_collator(editor.guide)  # type: ignore[arg-type]
    collator.transform = BucketTransform(BUCKETS)
    return collator


def make_data(
    editor: Editor,
    root: Path,
    *,
    rank: int = 0,
    world_size: int = 1,
    cache: Cache | None = None,
    **changes: Any,  # noqa: ANN401
) -> EditDataModule:
    data = EditDataModule(
        lambda split, num_examples: ImageFolder(split, num_examples, root=root),
        bucketed(editor),
        cache=cache,
        **{"num_examples": {"train": None, "val": 7}, "batch_size": BATCH_SIZE, "seed": 5} | changes,
    )
    data.trainer = SimpleNamespace(global_rank=rank, world_size=world_size, strategy=None)  # type: ignore[assignment]
    return data


def epoch(data: EditDataModule, number: int = 0, position: int = 0) -> list[EditBatch]:
    data.load_state_dict({"epoch": number, "position": position})
    return list(data.train_dataloader())


def names(batches: list[EditBatch]) -> list[list[str]]:
    return [batch.sample_ids for batch in batches]


def test_each_batch_has_one_of_the_sizes(editor: Editor, root: Path) -> None:
    batches = epoch(make_data(editor, root))
    assert sorted(name for batch in names(batches) for name in batch) == sorted(
        ImageFolder("train", root=root).sample_id(index) for index in range(NUM_EXAMPLES)
    )
    shapes = {tuple(batch.source.shape[2:]) for batch in batches if batch.source is not None}
    assert shapes == {(12, 20), (20, 12), (16, 16)}
    for batch in batches:
        assert batch.source is not None
        assert batch.target is not None
        assert batch.mllm_pixels is not None
        assert batch.source.shape == batch.target.shape
        assert batch.mllm_pixels.shape[2] == batch.mllm_pixels.shape[3], "the vision tower sees its own square"


@pytest.mark.parametrize(("world_size", "num_workers"), [(1, 0), (1, 2), (2, 0), (3, 0), (3, 1)])
def test_ranks_share_an_epoch_and_go_on_in_it(editor: Editor, root: Path, world_size: int, num_workers: int) -> None:
    shared = [
        names(epoch(make_data(editor, root, rank=rank, world_size=world_size, num_workers=num_workers), 1))
        for rank in range(world_size)
    ]
    together = [batch for turn in zip(*shared, strict=True) for batch in turn]
    alone = names(epoch(make_data(editor, root), 1))
    assert together == alone[: len(together)]
    assert len(together) == 9 // world_size * world_size
    assert names(epoch(make_data(editor, root), 2)) != alone
    done = 1
    for rank, full in enumerate(shared):
        data = make_data(editor, root, rank=rank, world_size=world_size)
        assert names(epoch(data, 1, done * BATCH_SIZE * world_size)) == full[done:]


def test_validation_has_every_example_once(editor: Editor, root: Path) -> None:
    batches = list(make_data(editor, root).val_dataloader())
    assert len([name for batch in names(batches) for name in batch]) == 7
    assert len({name for batch in names(batches) for name in batch}) == 7
    assert {len(batch) for batch in names(batches)} == {1, 2}


def test_buckets_that_fill_no_batch_are_named(editor: Editor, root: Path, caplog: pytest.LogCaptureFixture) -> None:
    data = make_data(editor, root, num_examples={"train": 10}, batch_size=4)
    with caplog.at_level(logging.WARNING):
        assert len(list(data.train_dataloader())) == 1
    assert "data.max_aspect: 6 of 10 training examples are in buckets of fewer than data.batch_size=4" in caplog.text
    with pytest.raises(
        ConfigError, match=r"expected at most the 0 training examples of one bucket that each of 1 proc"
    ):
        make_data(editor, root, batch_size=7).train_dataloader()


@pytest.mark.faults
def test_pictures_that_changed_after_they_were_measured(editor: Editor, tmp_path: Path) -> None:
    write_imagefolder(tmp_path, num_examples=4)
    ImageFolder("train", root=tmp_path).source_sizes()
    random_image(60, 20, seed=0).save(tmp_path / "sources" / "photo-001.png")
    with pytest.raises(DataError, match=r"data.max_aspect: expected pictures of one bucket in a batch, got .*pair-1"):
        list(make_data(editor, tmp_path, batch_size=4).train_dataloader())


@pytest.mark.faults
def test_data_without_sizes(editor: Editor) -> None:
    data = EditDataModule(RandomDataset, bucketed(editor), num_examples={"train": 4}, batch_size=2)
    with pytest.raises(
        ConfigError, match=r"data.max_aspect: expected data that know the sizes .* got RandomDataset; use"
    ):
        data.train_dataloader()


class Losses(lightning.Callback):
    def __init__(self) -> None:
        self.values: list[tuple[list[str], float, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *details: Any) -> None:  # noqa: ANN401
        batch: EditBatch = details[2]
        metrics = trainer.callback_metrics
        self.values.append((batch.sample_ids, metrics["train/loss"].item(), metrics["train/loss_edit"].item()))


@pytest.fixture
def fit(root: Path, tmp_path: Path) -> Callable[..., tuple[EditModule, Losses]]:
    """Trains seven steps, keeps a checkpoint of each, or goes on from one."""

    def run(name: str, *, cached: bool = False, resume: Path | None = None) -> tuple[EditModule, Losses]:
        module = EditModule(
            tiny_editor("kl"),
            Objective(),
            partial(adamw, lr=1e-3, lr_scale={}),
            partial(warmup_cosine, warmup_ratio=0.25),
            trainable=TRAINED,
            seed=5,
        )
        cache = None
        if cached:
            build(tmp_path / "cache", module.editor, root)
            cache = open_cache(tmp_path / "cache", module.editor, bucketed(module.editor), "32-true")
        losses = Losses()
        keep = ModelCheckpoint(tmp_path / name, "{step}", every_n_train_steps=1, save_top_k=-1)
        trainer = lightning.Trainer(
            accelerator="cpu",
            max_steps=11,  # 9 an epoch
            logger=False,
            callbacks=[losses, keep],
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
        )
        data = make_data(module.editor, root, cache=cache)
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
        return module, losses

    return run


def build(folder: Path, editor: Editor, root: Path) -> None:
    set_trainable(editor, TRAINED)
    recipes = {kind: r for kind, r in recipes_of(editor, bucketed(editor), "32-true").items() if isinstance(r, Recipe)}
    assert set(recipes) == {"latents", "vision"}
    datasets = {split: ImageFolder(split, root=root) for split in ("train", "val")}
    encoder = Encoder(editor, torch.device("cpu"), "32-true")
    counts = build_cache(folder, datasets, bucketed(editor), recipes, encoder, batch_size=4)
    assert counts["latents"] == NUM_EXAMPLES
    editor.train()


def test_a_training_resumed_in_an_epoch_is_the_same(fit: Callable[..., Any], tmp_path: Path) -> None:
    straight, losses = fit("straight")
    resumed, rest = fit("resumed", resume=tmp_path / "straight" / "step=4.ckpt")
    assert rest.values == losses.values[4:]
    weights = resumed.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in straight.state_dict().items())


def test_the_cache_gives_the_same_losses(fit: Callable[..., Any]) -> None:
    _, plain = fit("plain")
    _, cached = fit("cached", cached=True)
    assert [names for names, *_ in cached.values] == [names for names, *_ in plain.values]
    for first, second in zip(plain.values, cached.values, strict=True):
        assert second[1:] == pytest.approx(first[1:], rel=1e-5)


def test_a_cache_of_squares_is_refused(editor: Editor, root: Path, tmp_path: Path) -> None:
    build(tmp_path, editor, root)
    square = replace(bucketed(editor).transform, buckets=((16, 16),))  # type: ignore[type-var]
    collator = bucketed(editor)
    collator.transform = square
    with pytest.raises(ConfigError, match=r"(?s)the latents in .* were made differently; .*transform: cached Bucket"):
        open_cache(tmp_path, editor, collator, "32-true")
