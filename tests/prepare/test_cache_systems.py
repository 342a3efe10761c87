"""Training with a cache gives the losses of one without, for every kind of system, built from its config."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_datamodule, build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.data.cache.recipe import Recipe, recipes_of
from mgie_lit.data.transforms import TwoStepTransform
from mgie_lit.editor import Editor
from mgie_lit.prepare.cache import Encoder, build_cache
from mgie_lit.testing.datasets import write_gier

# Every kind of part that the paper's size has, as small as they go; pictures of unequal sizes.
KL_EDITOR = [
    "size=medium",
    "size.resolution=32",
    "size.mllm.language.hidden_size=32",
    "size.mllm.language.intermediate_size=48",
    "size.mllm.language.num_hidden_layers=2",
    "size.mllm.language.num_attention_heads=4",
    "size.prompt.max_length=480",
    "size.edit_head.hidden_dim=32",
    "size.edit_head.feedforward_dim=48",
    "size.edit_head.num_encoder_layers=1",
    "size.edit_head.num_decoder_layers=1",
    "size.text_encoder.num_hidden_layers=1",
    "size.autoencoder.block_out_channels=[8,8,16,16]",
    "size.autoencoder.norm_num_groups=4",
    "size.unet.block_out_channels=[32,64]",
    "size.unet.cross_attention_dim=48",
    "size.text_encoder.intermediate_size=48",
    "size.text_encoder.num_attention_heads=4",
]
VISION = [
    "size.mllm.vision.hidden_size=32",
    "size.mllm.vision.intermediate_size=48",
    "size.mllm.vision.num_hidden_layers=2",
    "size.mllm.vision.num_attention_heads=4",
]
TRAINING = ["data=gier", "data.expressive=instruction", "data.batch_size=2", "data.num_workers=0", "trainable=paper"]
STEPS = 2


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gier")
    write_gier(folder)
    return folder


class Losses(lightning.Callback):
    """Notes those of each step."""

    def __init__(self) -> None:
        self.values: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:  # noqa: ANN401
        self.values.append(
            {name: value.item() for name, value in trainer.callback_metrics.items() if name.startswith("train/loss")}
        )


@contextmanager
def encoders_forbidden(editor: Editor) -> Iterator[None]:
    """Neither autoencoder nor vision tower may run."""

    def forbidden(*_: Any) -> None:  # noqa: ANN401
        raise AssertionError("encoded although there is a cache")

    tower = getattr(getattr(editor.guide, "mllm", None), "vision_tower", None)
    handles = [part.register_forward_hook(forbidden) for part in (editor.autoencoder.encoder, tower) if part]
    yield
    for handle in handles:
        handle.remove()


def train(overrides: list[str], cache: Path | None, precision: str) -> list[dict[str, float]]:
    """Losses of a training's first steps."""
    config = compose_config("train", [*overrides, f"data.cache={cache or 'null'}"])
    editor = build_editor(config)
    module = build_module(config, editor)
    losses = Losses()
    trainer = lightning.Trainer(
        accelerator="cpu",
        precision=precision,  # type: ignore[arg-type]
        max_steps=STEPS,
        limit_val_batches=0,
        callbacks=[losses],
        logger=False,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    datamodule = build_datamodule(config, editor)
    if cache is None:
        trainer.fit(module, datamodule=datamodule)
        return losses.values
    with encoders_forbidden(editor):
        trainer.fit(module, datamodule=datamodule)
    return losses.values


def build(overrides: list[str], folder: Path, precision: str) -> set[str]:
    """Make the cache; gives what it holds."""
    config = compose_config("train", overrides)
    editor = build_editor(config)
    build_module(config, editor).eval()
    datamodule = build_datamodule(config, editor)
    is_released = config.faults.two_step_resize
    assert isinstance(datamodule.collator.transform, TwoStepTransform) == is_released
    recipes = recipes_of(editor, datamodule.collator, precision)
    found = {kind: recipe for kind, recipe in recipes.items() if isinstance(recipe, Recipe)}
    datasets = {"train": datamodule.dataset("train")}
    counts = build_cache(
        folder, datasets, datamodule.collator, found, Encoder(editor, torch.device("cpu"), precision), batch_size=1
    )
    return set(counts) - {"examples"}


@pytest.mark.parametrize(
    ("system", "precision", "kinds"),
    [
        (["preset=released", *VISION], "32-true", {"latents", "vision"}),
        (["model=lgie"], "32-true", {"latents"}),
        (["model=instruct_pix2pix"], "32-true", {"latents"}),
        pytest.param(["preset=released", *VISION], "bf16-mixed", {"latents", "vision"}, marks=pytest.mark.slow),
        pytest.param(["model=lgie"], "bf16-mixed", {"latents"}, marks=pytest.mark.slow),
        pytest.param(["model=instruct_pix2pix"], "bf16-mixed", {"latents"}, marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else value[0] if isinstance(value, list) else "",
)
def test_losses_are_those_without_a_cache(
    pairs: Path, tmp_path: Path, system: list[str], precision: str, kinds: set[str]
) -> None:
    overrides = [*KL_EDITOR, *TRAINING, f"data.root={pairs}", "effective_batch_size=null", *system]
    overrides += [f"trainer.precision={precision}"]
    assert build(overrides, tmp_path, precision) == kinds
    expected, found = (train(overrides, cache, precision) for cache in (None, tmp_path))
    assert len(expected) == STEPS
    tolerance = 1e-5 if precision == "32-true" else 1e-2  # batches of another size move the last bits
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, rel=tolerance)
    assert len({step["train/loss"] for step in expected}) == STEPS
