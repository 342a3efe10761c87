"""Making a cache, and training with it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from filelock import FileLock

from mgie_lit.data.cache.opened import open_cache
from mgie_lit.data.cache.recipe import Recipe, recipes_of
from mgie_lit.data.collate import EditCollator
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.editor import Editor, Objective
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare import cache as prepare_cache
from mgie_lit.prepare.cache import Encoder, build_cache
from mgie_lit.testing.random_data import RandomDataset, tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.module import EditModule
from mgie_lit.training.optim import adamw, warmup_cosine
from mgie_lit.types import EditExample

PAPER = ["guide.mllm.language_model.model.embed_tokens.*", "guide.mllm.language_model.lm_head.*"]
PAPER += ["guide.edit_head.*", "unet.*"]
SIZES = {"train": 6, "val": 3, "test": 1}


def make_module(trainable: list[str] = PAPER) -> EditModule:
    return EditModule(
        tiny_editor("kl"),
        Objective(),
        partial(adamw, lr=1e-3, lr_scale={"unet": 0.2}),
        partial(warmup_cosine, warmup_ratio=0.25),
        trainable=trainable,
        seed=5,
    )


def parts(module: EditModule) -> tuple[Editor, EditCollator]:
    return module.editor, tiny_collator(module.editor.guide)  # type: ignore[arg-type]


def build(folder: Path, module: EditModule, *, sizes: dict[str, int] | None = None, **options: Any) -> Counter[str]:  # noqa: ANN401
    editor, collator = parts(module)
    precision = options.pop("precision", "32-true")
    recipes = recipes_of(editor, collator, precision)
    found = {kind: recipe for kind, recipe in recipes.items() if isinstance(recipe, Recipe)}
    datasets = {split: RandomDataset(split, count) for split, count in (sizes or {"train": 6, "val": 3}).items()}
    encoder = Encoder(editor, torch.device("cpu"), precision)
    return build_cache(folder, datasets, collator, found, encoder, **{"batch_size": 2} | options)


@contextmanager
def counted_calls(editor: Editor) -> Iterator[Counter[str]]:
    """How often autoencoder and vision tower run."""
    calls: Counter[str] = Counter()
    tower = editor.guide.mllm.vision_tower  # type: ignore[union-attr]
    handles = [
        editor.autoencoder.encoder.register_forward_hook(lambda *_: calls.update(["encoder"])),
        tower.embeddings.register_forward_hook(lambda *_: calls.update(["tower"])),
    ]
    yield calls
    for handle in handles:
        handle.remove()


class Watch(lightning.Callback):
    """Notes the losses of each step."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:  # noqa: ANN401
        names = ("train/loss", "train/loss_edit", "train/loss_lm")
        self.losses.append({name: trainer.callback_metrics[name].item() for name in names})


def fit(
    module: EditModule,
    folder: Path | None,
    *,
    precision: Any = "32-true",  # noqa: ANN401
    num_workers: int = 0,
    steps: int = 3,
    batch_size: int = 2,
) -> tuple[list[dict[str, float]], float, Counter[str]]:
    """Losses of the steps, validation loss and calls of a training."""
    editor, collator = parts(module)
    data = EditDataModule(
        RandomDataset,
        collator,
        num_examples=SIZES,
        batch_size=batch_size,
        seed=5,
        num_workers=num_workers,
        cache=open_cache(folder, editor, collator, precision),
    )
    watch = Watch()
    trainer = lightning.Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision,
        max_steps=steps,
        logger=False,
        callbacks=[watch],
        gradient_clip_val=1.0,
        num_sanity_val_steps=0,
        val_check_interval=3,
        check_val_every_n_epoch=None,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    with counted_calls(editor) as calls:
        trainer.fit(module, datamodule=data)
    return watch.losses, trainer.callback_metrics["val/loss"].item(), calls


def test_training_with_the_cache_is_the_same_and_encodes_nothing(tmp_path: Path) -> None:
    """To the last bit where an image is encoded in a batch of the same size, here alone."""
    build(tmp_path, make_module(), batch_size=1)
    plain, cached = make_module(), make_module()
    expected, expected_val, plain_calls = fit(plain, None, batch_size=1)
    losses, val, calls = fit(cached, tmp_path, batch_size=1)
    assert plain_calls == {"encoder": 2 * (3 + 3), "tower": 3 + 3}
    assert calls == {}
    assert losses == expected
    assert val == expected_val
    after = cached.editor.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in plain.editor.state_dict().items())
    assert len({step["train/loss"] for step in losses}) == 3


def test_batches_of_another_composition_move_the_last_bits_only(tmp_path: Path) -> None:
    build(tmp_path, make_module(), batch_size=3)
    expected, expected_val, _ = fit(make_module(), None)
    losses, val, calls = fit(make_module(), tmp_path)
    assert calls == {}
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-6)
    assert val == pytest.approx(expected_val, rel=2e-6)


def test_where_the_tower_trains_latents_are_cached(tmp_path: Path) -> None:
    everything = ["guide.*", "unet.*"]
    counts = build(tmp_path, make_module(everything))
    assert counts == {"examples": 9, "latents": 6}, "training and validation have three images in common"
    expected, _, _ = fit(make_module(everything), None)
    losses, _, calls = fit(make_module(everything), tmp_path)
    assert calls["encoder"] == 0
    assert calls["tower"] > 0
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=2e-6)


@pytest.mark.slow
def test_mixed_precision(tmp_path: Path) -> None:
    build(tmp_path, make_module(), precision="bf16-mixed")
    expected, _, _ = fit(make_module(), None, precision="bf16-mixed")
    losses, _, calls = fit(make_module(), tmp_path, precision="bf16-mixed")
    assert calls == {}
    for ours, theirs in zip(losses, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=1e-6)


@pytest.mark.slow
def test_loader_processes_train_the_same(tmp_path: Path) -> None:
    build(tmp_path, make_module(), num_workers=2, batch_size=1)
    expected, _, _ = fit(make_module(), None, batch_size=1)
    losses, _, calls = fit(make_module(), tmp_path, num_workers=2, batch_size=1)
    assert calls == {}
    assert losses == expected


def test_only_what_is_missing_is_encoded(tmp_path: Path) -> None:
    module = make_module()
    assert build(tmp_path, module, sizes={"train": 3}) == {"examples": 3, "latents": 3, "vision": 3}
    assert build(tmp_path, module, sizes={"train": 3}) == {"examples": 3}
    assert build(tmp_path, module, sizes={"train": 5}) == {"examples": 5, "latents": 2, "vision": 2}
    with torch.no_grad():
        next(module.editor.guide.mllm.vision_tower.parameters()).add_(1.0)  # type: ignore[union-attr]
    assert build(tmp_path, module, sizes={"train": 5}) == {"examples": 5, "vision": 5}
    assert len(list(tmp_path.glob("vision-*"))) == 2, "the older one is still there"


class _Twins(RandomDataset):
    """Several requests for one pair, and one source with two targets."""

    def __getitem__(self, index: int) -> EditExample:
        first, other = super().__getitem__(0), super().__getitem__(1)
        target = first.target if index < 3 else other.target
        return EditExample(self.sample_id(index), first.source, target, f"request {index}", "it is red")


def test_equal_images_are_encoded_once(tmp_path: Path) -> None:
    editor, collator = parts(make_module())
    recipes: Any = recipes_of(editor, collator, "32-true")
    encoder = Encoder(editor, torch.device("cpu"), "32-true")
    counts = build_cache(tmp_path, {"train": _Twins("train", 5)}, collator, recipes, encoder, batch_size=2)
    assert counts == {"examples": 5, "latents": 2, "vision": 1}
    cache = open_cache(tmp_path, editor, collator, "32-true")
    assert cache is not None
    assert len(cache.encoded(_Twins("train", 5))) == 5


def test_an_interrupted_run_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = make_module()
    encode, calls = Encoder.encode, []

    def stopping(self: Encoder, kind: str, items: Any) -> Any:  # noqa: ANN401
        calls.append(kind)
        if len(calls) > 6:  # both kinds of three batches
            raise KeyboardInterrupt
        return encode(self, kind, items)

    monkeypatch.setattr(Encoder, "encode", stopping)
    with pytest.raises(KeyboardInterrupt):
        build(tmp_path, module, sizes={"train": 12}, shard_size=4)
    monkeypatch.setattr(Encoder, "encode", encode)
    counts = build(tmp_path, module, sizes={"train": 12}, shard_size=4)
    assert counts == {"examples": 12, "latents": 8, "vision": 8}, "one shard of four was there, two were lost"


_KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, {tests!r})
import torch
from mgie_lit.data.cache.recipe import recipes_of
from mgie_lit.models.freezing import set_trainable
from mgie_lit.prepare.cache import Encoder, build_cache
from mgie_lit.testing.random_data import RandomDataset, tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.data.cache import files

torch.set_num_threads(1)
editor = tiny_editor("kl")
set_trainable(editor, {trainable!r})
collator = tiny_collator(editor.guide)
encoder = Encoder(editor, torch.device("cpu"), "32-true")
hashed = files.content_hash
seen = []
def dying(path):  # at the moment when a file is on disk and has no name yet
    seen.append(path)
    if len(seen) == {after}:
        os.kill(os.getpid(), signal.SIGKILL)
    return hashed(path)
files.content_hash = dying
recipes = recipes_of(editor, collator, "32-true")
datasets = {{"train": RandomDataset("train", 8)}}
build_cache(Path({folder!r}), datasets, collator, recipes, encoder, batch_size=2, shard_size=2)
"""


@pytest.mark.slow
@pytest.mark.parametrize("after", [1, 2, 3, 8])
def test_a_killed_run_loses_one_shard_at_most(tmp_path: Path, after: int) -> None:
    script = textwrap.dedent(_KILLED).format(tests="", trainable=PAPER, after=after, folder=str(tmp_path / "cache"))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    killed = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    counts = build(tmp_path / "cache", make_module(), sizes={"train": 8}, shard_size=2)
    whole = (after - 1) // 3  # a shard is three files: latents, vision, samples
    assert counts["latents"] in (8 - 2 * whole, 8 - 2 * whole - 2)
    assert not list((tmp_path / "cache").rglob(".draft-*"))
    build(tmp_path / "cache", make_module(), sizes={"val": 3})
    _, _, calls = fit(make_module(), _with(tmp_path / "cache"))
    assert calls == {}


def _with(folder: Path) -> Path:
    build(folder, make_module())
    return folder


def test_damaged_files_are_made_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    module = make_module()
    build(tmp_path, module, sizes={"train": 4}, shard_size=2)
    first = sorted(tmp_path.glob("latents-*/*.safetensors"))[0]
    first.write_bytes(first.read_bytes()[:-1])
    assert build(tmp_path, module, sizes={"train": 4}) == {"examples": 4, "latents": 2}
    assert f"{first} is damaged and made again" in caplog.text
    assert build(tmp_path, module, sizes={"train": 4}, verify=True) == {"examples": 4}


def test_verify_reads_files_that_were_right_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build(tmp_path, make_module(), sizes={"train": 2})
    build(tmp_path, make_module(), sizes={"train": 2})
    trusted: list[bool] = []
    damaged = prepare_cache.damaged_files
    monkeypatch.setattr(
        prepare_cache,
        "damaged_files",
        lambda folder, *, trust_stamps: trusted.append(trust_stamps) or damaged(folder, trust_stamps=trust_stamps),
    )
    build(tmp_path, make_module(), sizes={"train": 2}, verify=True)
    assert trusted == [False] * 3


@pytest.mark.faults
def test_two_writers(tmp_path: Path) -> None:
    with (
        FileLock(tmp_path / "writing.lock"),
        pytest.raises(DataError, match=r"another process writes to .*; wait for it"),
    ):
        build(tmp_path, make_module())


class _Untargeted(RandomDataset):
    def __getitem__(self, index: int) -> EditExample:
        return EditExample("train-0", super().__getitem__(0).source, None, "make it red")


@pytest.mark.faults
def test_a_target_is_needed(tmp_path: Path) -> None:
    editor, collator = parts(make_module())
    recipes: Any = recipes_of(editor, collator, "32-true")
    encoder = Encoder(editor, torch.device("cpu"), "32-true")
    with pytest.raises(DataError, match="train-0: training needs a target image, the data set has none for it"):
        build_cache(tmp_path, {"train": _Untargeted("train", 1)}, collator, recipes, encoder)


@pytest.mark.faults
def test_unknown_precision() -> None:
    with pytest.raises(
        ConfigError, match=r"trainer\.precision: expected one of 32-true, bf16-mixed, .* for a cache, got"
    ):
        Encoder(tiny_editor("kl"), torch.device("cpu"), "transformer-engine")


def test_true_half_precision_converts_the_weights(tmp_path: Path) -> None:
    module = make_module()
    assert build(tmp_path, module, sizes={"train": 2}, precision="bf16-true")["latents"] == 2
    assert module.editor.autoencoder.dtype == torch.bfloat16
