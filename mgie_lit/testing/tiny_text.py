"""Tiny systems whose guide is a text encoder, and the folder of a tiny published InstructPix2Pix."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
    StableDiffusionInstructPix2PixPipeline,
)
from diffusers.schedulers.scheduling_euler_ancestral_discrete import EulerAncestralDiscreteScheduler
from transformers import CLIPTextModel, CLIPTokenizer

from mgie_lit.editor import Editor
from mgie_lit.guides.text import Reads, TextGuide
from mgie_lit.models.text_encoder import make_text_encoder
from mgie_lit.prompts import load_text_tokenizer
from mgie_lit.testing.tiny_models import CONDITION_DIM, tiny_kl_autoencoder, tiny_scheduler, tiny_unet

TEXT_VOCAB_SIZE = 530
TEXT_LENGTH = 13  # tokens with begin and end
_MERGES = ("m a", "k e</w>", "i t</w>", "ma ke</w>", "w a", "wa r", "m e", "me r</w>")


def tiny_text_encoder() -> CLIPTextModel:
    """A text encoder of two layers, as wide as the condition of the tiny UNets."""
    return make_text_encoder(
        vocab_size=TEXT_VOCAB_SIZE,
        hidden_size=CONDITION_DIM,
        intermediate_size=28,
        num_hidden_layers=2,
        num_attention_heads=5,
        max_position_embeddings=TEXT_LENGTH,
    )


def tiny_text_guide(reads: Reads = "instruction") -> TextGuide:
    """A text encoder with the package's small tokenizer; its conditions are ``(B, TEXT_LENGTH, CONDITION_DIM)``."""
    return TextGuide(tiny_text_encoder(), load_text_tokenizer("small"), reads=reads)


def tiny_text_editor(reads: Reads = "instruction", *, seed: int = 0) -> Editor:
    """A whole system of InstructPix2Pix's kind with random weights, in eval mode.

    Args:
        reads: Which text of an example the guide reads.
        seed: Of the weights; torch's global state is left alone.

    Returns:
        An editor on the CPU; the same arguments give the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Editor(tiny_text_guide(reads), tiny_kl_autoencoder(), tiny_unet(4, 4), tiny_scheduler("epsilon")).eval()


def write_instruct_pix2pix(folder: Path, *, seed: int = 0, scheduler: Any = None) -> Path:  # noqa: ANN401
    """Write a tiny InstructPix2Pix in the published layout, by diffusers' own ``save_pretrained``.

    Args:
        folder: New; ``unet``, ``vae``, ``text_encoder``, ``tokenizer`` and ``scheduler`` go into it.
        seed: Of the weights.
        scheduler: Of diffusers; None = Euler ancestral, as published.

    Returns:
        The folder.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        parts: dict[str, Any] = {"safety_checker": None, "feature_extractor": None}
        pipeline = StableDiffusionInstructPix2PixPipeline(
            vae=tiny_kl_autoencoder(),
            text_encoder=tiny_text_encoder(),
            tokenizer=tiny_clip_tokenizer(folder / "made"),
            unet=UNet2DConditionModel.from_config({**tiny_unet(4, 4).config, "sample_size": 8}),
            scheduler=scheduler or EulerAncestralDiscreteScheduler(beta_schedule="scaled_linear", steps_offset=1),
            requires_safety_checker=False,
            **parts,
        )
    pipeline.save_pretrained(folder)
    return folder


def tiny_clip_tokenizer(folder: Path) -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of characters and a few merges.

    Args:
        folder: Where its two files are written.

    Returns:
        The tokenizer; texts are ``TEXT_LENGTH`` tokens long.
    """
    letters = [chr(code) for code in range(33, 127)]
    merged = [pair.replace(" ", "") for pair in _MERGES]
    words = [*letters, *(f"{letter}</w>" for letter in letters), *merged, "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("\n".join(["#version: 0.2", *_MERGES]) + "\n")
    return CLIPTokenizer(str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=TEXT_LENGTH)
