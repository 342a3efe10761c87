"""A published folder against diffusers' own pipeline on the same folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    StableDiffusionInstructPix2PixPipeline,
)
from PIL import Image

from mgie_lit.checkpoints.instruct_pix2pix import is_instruct_pix2pix, open_instruct_pix2pix
from mgie_lit.errors import CheckpointError
from mgie_lit.guides.text import TextGuide
from mgie_lit.sampling.loop import sample_edit
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_text import write_instruct_pix2pix

STEPS, SIZE = 5, 16
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012, "steps_offset": 1}
WORDS = ["make it warmer", "make the sky much much warmer and all of the trees darker than they were before"]


def theirs(folder: Path, images: list[Image.Image], latents: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    """``(B, 3, H, W)`` in [0, 1] by diffusers."""
    pipeline: Any = StableDiffusionInstructPix2PixPipeline.from_pretrained(folder, safety_checker=None)
    pipeline.set_progress_bar_config(disable=True)
    images_out: torch.Tensor = pipeline(
        prompt=WORDS,
        image=images,
        num_inference_steps=STEPS,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        latents=latents,
        generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        output_type="pt",
    ).images
    return images_out


def ours(folder: Path, images: list[Image.Image], latents: torch.Tensor, seeds: list[int]) -> torch.Tensor:
    editor, options = open_instruct_pix2pix(folder)
    source = torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) / 127.5 - 1 for image in images])
    edited = sample_edit(
        editor,
        source,
        editor.guide.condition(images, WORDS),  # type: ignore[operator]
        latents,
        num_inference_steps=STEPS,
        guidance_scale=options.guidance_scale,
        image_guidance_scale=options.image_guidance_scale,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
    )
    return (edited / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize(
    "scheduler",
    [
        EulerAncestralDiscreteScheduler(**BETAS),  # as published
        EulerDiscreteScheduler(**BETAS),
        DDIMScheduler(**BETAS, clip_sample=False, set_alpha_to_one=False),
    ],
    ids=lambda scheduler: type(scheduler).__name__,
)
def test_guided_sampling_equals_diffusers(tmp_path: Path, scheduler: Any) -> None:  # noqa: ANN401
    folder = write_instruct_pix2pix(tmp_path / "published", scheduler=scheduler)
    images = [random_image(SIZE, SIZE, seed=seed) for seed in range(2)]
    latents = torch.randn(2, 4, SIZE // 2, SIZE // 2, generator=torch.Generator().manual_seed(0))
    expected = theirs(folder, images, latents, [5, 6])
    edited = ours(folder, images, latents, [5, 6])
    assert (edited - expected).abs().max() < 1e-4
    other = ours(folder, images[::-1], latents, [5, 6])
    assert (other - expected).abs().max() > 1e-2, "the comparison would hold of anything"


def test_defaults_are_those_of_the_published_pipeline(tmp_path: Path) -> None:
    folder = write_instruct_pix2pix(tmp_path / "published")
    assert is_instruct_pix2pix(folder)
    editor, options = open_instruct_pix2pix(folder)
    assert isinstance(editor.guide, TextGuide)
    assert not editor.guide.prompt.needs_expressive
    assert not editor.training
    assert editor.source_scale == 1.0
    assert (options.num_inference_steps, options.guidance_scale, options.image_guidance_scale) == (100, 7.5, 1.5)
    assert options.resolution == 16  # the UNet's 8 times the autoencoder's 2
    assert isinstance(editor.scheduler, EulerAncestralDiscreteScheduler)


def test_tokenizer_in_the_layout_of_2022(tmp_path: Path) -> None:
    folder = write_instruct_pix2pix(tmp_path / "published")
    new = open_instruct_pix2pix(folder)[0].guide.prompt  # type: ignore[union-attr]
    old = folder / "tokenizer"
    for file in old.iterdir():
        file.unlink()
    for name in ("vocab.json", "merges.txt"):
        (folder / "made" / name).rename(old / name)
    names = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>"}
    names |= {"pad_token": "<|endoftext|>"}
    (old / "special_tokens_map.json").write_text(json.dumps(names))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": 13, "do_lower_case": True, **names}
    (old / "tokenizer_config.json").write_text(json.dumps(config))
    for text in (*WORDS, ""):
        assert open_instruct_pix2pix(folder)[0].guide.prompt.ids(text) == new.ids(text)  # type: ignore[union-attr]


@pytest.mark.faults
def test_other_folders_and_faulty_parts(tmp_path: Path) -> None:
    assert not is_instruct_pix2pix(tmp_path)
    folder = write_instruct_pix2pix(tmp_path / "published")
    scheduler = folder / "scheduler" / "scheduler_config.json"
    whole = scheduler.read_text()
    scheduler.write_text(json.dumps({"_class_name": "UNet2DConditionModel"}))
    with pytest.raises(CheckpointError, match=r"'UNet2DConditionModel' is no scheduler of diffusers"):
        open_instruct_pix2pix(folder)
    scheduler.write_text(whole)
    unet = folder / "unet" / "config.json"
    unet.write_text(json.dumps(json.loads(unet.read_text()) | {"in_channels": 4}))
    with pytest.raises(CheckpointError, match=r"expected the parts of an InstructPix2Pix pipeline: unet.in_channels"):
        open_instruct_pix2pix(folder)
    index = folder / "model_index.json"
    index.write_text(json.dumps({"_class_name": "StableDiffusionPipeline"}))
    assert not is_instruct_pix2pix(folder)
