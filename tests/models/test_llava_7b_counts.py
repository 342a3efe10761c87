"""The paper's size, on the meta device: its parameters are counted without being allocated."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from torch import nn

from mgie_lit.checkpoints import frozen
from mgie_lit.checkpoints.runs import EMA_KEY
from mgie_lit.config.start import start_sources
from mgie_lit.editor import Editor, Objective
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.freezing import set_trainable
from mgie_lit.prompts import EditPrompt, load_tokenizer
from mgie_lit.testing.tiny_models import tiny_scheduler
from mgie_lit.training.callbacks.ema import ExponentialMovingAverage
from mgie_lit.training.module import EditModule
from mgie_lit.training.optim import adamw, warmup_cosine

CONF = Path(__file__).resolve().parents[2] / "conf"

COUNTS = {
    "guide.mllm.language_model": 6_738_505_728,
    "guide.mllm.vision_tower": 303_179_776,
    "guide.mllm.projector": 4_198_400,
    "guide.edit_head": 31_958_784,
    "unet": 859_532_484,
    "autoencoder": 83_653_863,
    "": 8_021_029_035,
}
NUM_TRAINABLE_PAPER = 1_153_725_380


def count(module: nn.Module, *, trainable_only: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


@pytest.fixture(scope="module")
def editor() -> Editor:
    size = OmegaConf.create({"size": OmegaConf.load(CONF / "size" / "llava_7b.yaml")}).size
    patches = (size.mllm.vision.image_size // size.mllm.vision.patch_size) ** 2
    prompt = EditPrompt(load_tokenizer("small"), num_image_patches=patches, **size.prompt)  # LLaVA's is not at hand

    def make(node: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return instantiate(node, _convert_="all", **kwargs)

    with torch.device("meta"):
        guide = MLLMGuide(
            make(size.mllm, image_patch_id=prompt.image_patch_id),
            make(size.edit_head),
            prompt,
            make(size.image_processor),
        )
        return Editor(guide, make(size.autoencoder), make(size.unet), tiny_scheduler("epsilon"))


def test_nothing_is_allocated(editor: Editor) -> None:
    assert {parameter.device.type for parameter in editor.parameters()} == {"meta"}


@pytest.mark.parametrize("part", COUNTS)
def test_number_of_parameters(editor: Editor, part: str) -> None:
    assert count(editor.get_submodule(part)) == COUNTS[part]


def test_parts_add_up() -> None:
    assert sum(number for part, number in COUNTS.items() if part) == COUNTS[""]


def test_what_trains_as_in_the_paper(editor: Editor) -> None:
    patterns = OmegaConf.load(CONF / "model" / "mgie.yaml").trainable.paper
    set_trainable(editor, list(patterns))
    assert count(editor, trainable_only=True) == NUM_TRAINABLE_PAPER
    vocabulary = count(editor.get_submodule("guide.mllm.language_model"), trainable_only=True)
    assert vocabulary == 2 * 32_011 * 4096  # embeddings and LM head


def test_a_checkpoint_holds_what_trains(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    """1.15 billion parameters and the average of as many, not 8 billion."""
    monkeypatch.setattr(frozen, "tensors_hash", lambda tensors: f"{len(tensors)} tensors")  # there are no bytes to hash
    patterns = list(OmegaConf.load(CONF / "model" / "mgie.yaml").trainable.paper)
    folders = OmegaConf.load(CONF / "size" / "llava_7b.yaml").start
    sources = start_sources(OmegaConf.create({"size": {"start": folders}}))
    module = EditModule(
        editor, Objective(), partial(adamw, lr=1e-4, lr_scale={}), warmup_cosine, trainable=patterns, sources=sources
    )
    stored = module.state_dict()
    names = dict(editor.named_parameters())
    held = {name: value for name, value in stored.items() if name.removeprefix("editor.") in names}
    assert sum(value.numel() for value in held.values()) == NUM_TRAINABLE_PAPER
    assert sum(value.numel() for value in stored.values()) < 1.001 * NUM_TRAINABLE_PAPER, "buffers are small"
    average = ExponentialMovingAverage()
    average.on_train_start(SimpleNamespace(global_step=0), module)  # type: ignore[arg-type]
    checkpoint: dict[str, Any] = {}
    average.on_save_checkpoint(None, module, checkpoint)  # type: ignore[arg-type]
    assert sum(value.numel() for value in checkpoint[EMA_KEY]["weights"].values()) == NUM_TRAINABLE_PAPER
