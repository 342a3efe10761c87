"""What both sides train: editor, batch and draws, as the released code has them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
import torch
from omegaconf import DictConfig
from PIL import Image

from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_datamodule, build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.editor import Editor, Objective
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.training.draws import draw
from mgie_lit.types import EditBatch, EditDraws, EditExample

# As the released code has it, whatever the size's own default is.
OVERRIDES = (
    "sampler=ddim",
    "trainable=paper",
    "effective_batch_size=null",
    "size.start.mllm=null",
    "size.start.diffusion=null",
    "size.tokenizer.source=small",
)
_ENCODER, _DECODER = ", ".join(["DownEncoderBlock2D"] * 4), ", ".join(["UpDecoderBlock2D"] * 4)
PLAIN_EDITOR = (  # size=tiny has an editor of another kind; here it gets one of the released kind
    "~size.autoencoder.patch_size",
    "~size.autoencoder.frequency_gain",
    "~size.autoencoder.colour_gain",
    "size.autoencoder._target_=diffusers.AutoencoderKL",
    "size.autoencoder.scaling_factor=0.18215",
    "+size.autoencoder.latent_channels=4",
    "+size.autoencoder.block_out_channels=[16, 16, 32, 32]",
    f"+size.autoencoder.down_block_types=[{_ENCODER}]",
    f"+size.autoencoder.up_block_types=[{_DECODER}]",
    "+size.autoencoder.norm_num_groups=8",
    "size.unet.in_channels=8",
    "size.unet.out_channels=4",
    "size.unet.class_embed_type=null",
    "size.unet.projection_class_embeddings_input_dim=null",
)
INSTRUCTION = "make the photo brighter"
EXPRESSIVE = "the photo is brighter , and the colours of the photo are a little warmer than before ."


@dataclass
class Case:
    """What both sides train on."""

    editor: Editor
    batch: EditBatch
    cached: EditBatch  # the same with latents and vision states in place of pixels
    draws: EditDraws
    objective: Objective


def make_case(size: str, batch_size: int, device: str) -> Case:
    """Editor with random weights, a batch of made-up pictures, and draws without dropped conditions.

    Args:
        size: Option of ``size``.
        batch_size: Examples.
        device: ``cpu`` or ``cuda``.

    Returns:
        Everything on the device; frozen parts in bfloat16 on a GPU.
    """
    config = case_config(size)
    torch.manual_seed(0)
    editor = build_editor(config).to(device)
    return fill_case(editor, config, batch_size)


def case_config(size: str, *overrides: str) -> DictConfig:
    """What the released code trains, in one of our sizes."""
    plain = PLAIN_EDITOR if size == "tiny" else ()
    return compose_config("train", [f"size={size}", *OVERRIDES, *plain, "data.num_examples.train=8", *overrides])


def fill_case(editor: Editor, config: DictConfig, batch_size: int, expressive: str = EXPRESSIVE) -> Case:
    """A batch for an editor, on its device.

    Args:
        editor: Of this config's size.
        config: Says at which resolution the pictures are.
        batch_size: Examples.
        expressive: What is written of each.
    """
    module = build_module(config, editor)
    examples = [made_up_example(index, int(config.size.resolution), expressive) for index in range(batch_size)]
    batch = build_datamodule(config, editor).collator(examples)
    shape = editor.batch_latent_shape(batch)
    draws = draw(batch.sample_ids, seed=0, epoch=0, latent_shape=shape, num_timesteps=1000)
    draws = replace(draws, condition_dropout=torch.full((batch_size,), 0.5))
    batch, draws = batch.to(editor.device), draws.to(editor.device)
    return Case(editor, batch, _cached(editor, batch), draws, module.objective)


def made_up_example(index: int, side: int, expressive: str = EXPRESSIVE) -> EditExample:
    """A smooth picture with a word more or less, so that rows have unequal lengths."""
    rng = np.random.default_rng(index)
    pair = []
    for _ in range(2):
        coarse = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
        pair.append(coarse.resize((side, side), Image.Resampling.BICUBIC))
    words = " ".join(expressive.split()[: len(expressive.split()) - index % 3])
    return EditExample(f"s{index}", pair[0], pair[1], INSTRUCTION, words)


@torch.no_grad()
def _cached(editor: Editor, batch: EditBatch) -> EditBatch:
    """What ``mgie prepare cache`` would bring."""
    assert batch.source is not None
    assert batch.target is not None
    assert batch.mllm_pixels is not None
    guide = cast("MLLMGuide", editor.guide)
    target = editor.autoencoder.encode(batch.target).latent_dist
    return replace(
        batch,
        source=None,
        target=None,
        mllm_pixels=None,
        source_latents=editor.autoencoder.encode(batch.source).latent_dist.mode(),
        target_mean=target.mean,
        target_std=target.std,
        vision_states=guide.mllm.vision_states(batch.mllm_pixels),
    )
