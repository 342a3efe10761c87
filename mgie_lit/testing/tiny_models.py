"""Tiny systems with random weights, from plain constructors, in which every axis has a size of its own.

A mix-up of two axes is an error here instead of a wrong number: no two of vocabulary, widths, heads, queries, visual
tokens, patches and channels are alike.
"""

from __future__ import annotations

from typing import Literal

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.editor import Editor
from mgie_lit.functional.diffusion import PredictionType
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.autoencoder import PatchAutoencoder
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.models.unet import zero_output
from mgie_lit.prompts import EditPrompt, load_tokenizer

VOCAB_SIZE = 530  # more than the tokenizer's 512, as padded checkpoints have
LLM_DIM, LLM_HEADS, LLM_FEEDFORWARD = 40, 5, 52
VISION_DIM, VISION_HEADS, VISION_FEEDFORWARD = 24, 3, 36
VISION_SIZE, VISION_PATCH = 42, 14  # pixels
NUM_IMAGE_PATCHES = (VISION_SIZE // VISION_PATCH) ** 2
HEAD_DIM, HEAD_HEADS, HEAD_FEEDFORWARD, NUM_QUERIES = 28, 7, 44, 6
CONDITION_DIM = 20
MAX_LENGTH = 96  # tokens


def tiny_prompt(*, num_image_patches: int = NUM_IMAGE_PATCHES, max_length: int = MAX_LENGTH) -> EditPrompt:
    """The conversation with the package's small tokenizer.

    Args:
        num_image_patches: Image tokens; 0 = none.
        max_length: Longest row in tokens.

    Returns:
        A prompt without system text; its ids are below ``VOCAB_SIZE``.
    """
    return EditPrompt(
        load_tokenizer("small"),
        num_image_patches=num_image_patches,
        system="",
        query="what will this image be like if ' {instruction} '",
        max_length=max_length,
    )


def tiny_mllm(image_patch_id: int | None, *, has_vision: bool = True) -> MLLM:
    """An MLLM of two LLaMA and three CLIP layers.

    Args:
        image_patch_id: Id of ``<im_patch>``.
        has_vision: False = a language model without eyes, as in LGIE.

    Returns:
        Random weights of width ``LLM_DIM``, drawn from torch's global state.
    """
    language = {
        "vocab_size": VOCAB_SIZE,
        "hidden_size": LLM_DIM,
        "intermediate_size": LLM_FEEDFORWARD,
        "num_hidden_layers": 2,
        "num_attention_heads": LLM_HEADS,
        "max_position_embeddings": 256,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
    }
    vision = {
        "hidden_size": VISION_DIM,
        "intermediate_size": VISION_FEEDFORWARD,
        "num_hidden_layers": 3,
        "num_attention_heads": VISION_HEADS,
        "image_size": VISION_SIZE,
        "patch_size": VISION_PATCH,
    }
    eyes = vision if has_vision else None
    mllm: MLLM = MLLM(language, eyes, vision_layer=-2, image_patch_id=image_patch_id)
    return mllm


def tiny_edit_head() -> EditHead:
    """An edit head with one encoder and two decoder layers."""
    edit_head: EditHead = EditHead(
        input_dim=LLM_DIM,
        hidden_dim=HEAD_DIM,
        output_dim=CONDITION_DIM,
        num_queries=NUM_QUERIES,
        num_heads=HEAD_HEADS,
        num_encoder_layers=1,
        num_decoder_layers=2,
        feedforward_dim=HEAD_FEEDFORWARD,
    )
    return edit_head


def tiny_guide(*, has_vision: bool = True, align: bool = False, max_new_tokens: int = 7) -> MLLMGuide:
    """The guide of MGIE, or of LGIE without vision.

    Args:
        has_vision: Whether the MLLM sees the image.
        align: Whether the guide gives ``loss_align``.
        max_new_tokens: Longest expressive instruction in tokens.

    Returns:
        A guide whose conditions are ``(B, NUM_QUERIES, CONDITION_DIM)``.
    """
    prompt = tiny_prompt(num_image_patches=NUM_IMAGE_PATCHES if has_vision else 0)
    processor = CLIPImageProcessorPil(
        size={"shortest_edge": VISION_SIZE}, crop_size={"height": VISION_SIZE, "width": VISION_SIZE}
    )
    mllm = tiny_mllm(prompt.image_patch_id, has_vision=has_vision)
    return MLLMGuide(mllm, tiny_edit_head(), prompt, processor, max_new_tokens=max_new_tokens, align=align)


def tiny_unet(latent_channels: int, out_channels: int, *, has_pooled_condition: bool = False) -> UNet2DConditionModel:
    """A UNet of two levels for noisy and source latents.

    Args:
        latent_channels: Of the autoencoder.
        out_channels: Of the prediction.
        has_pooled_condition: Whether the mean of the condition modulates every block.

    Returns:
        A UNet with ``2 * latent_channels`` at its input; latent sides are multiples of 2.
    """
    pooled = {"class_embed_type": "projection", "projection_class_embeddings_input_dim": CONDITION_DIM}
    unet: UNet2DConditionModel = UNet2DConditionModel(
        sample_size=8,
        in_channels=2 * latent_channels,
        out_channels=out_channels,
        block_out_channels=(16, 32),
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        layers_per_block=1,
        cross_attention_dim=CONDITION_DIM,
        attention_head_dim=2,
        norm_num_groups=4,
        **(pooled if has_pooled_condition else {}),
    )
    return unet


def tiny_kl_autoencoder() -> AutoencoderKL:
    """An ``AutoencoderKL`` with 4 latent channels, half the pixels a side and SD-1.5's scaling factor."""
    autoencoder: AutoencoderKL = AutoencoderKL(
        latent_channels=4,
        block_out_channels=(8, 12),
        down_block_types=("DownEncoderBlock2D", "DownEncoderBlock2D"),
        up_block_types=("UpDecoderBlock2D", "UpDecoderBlock2D"),
        layers_per_block=1,
        norm_num_groups=4,
        scaling_factor=0.18215,
    )
    return autoencoder


def tiny_scheduler(prediction_type: PredictionType, *, num_train_timesteps: int = 50) -> DDIMScheduler:
    """SD-1.5's betas over fewer timesteps; a ``sample`` predictor starts at pure noise.

    Args:
        prediction_type: What the UNet predicts.
        num_train_timesteps: ``T``.

    Returns:
        DDIM with trailing timesteps and unclipped samples.
    """
    is_sample = prediction_type == "sample"
    scheduler: DDIMScheduler = DDIMScheduler(
        num_train_timesteps=num_train_timesteps,
        beta_start=0.00085,
        beta_end=0.4,  # so that few timesteps reach almost pure noise
        beta_schedule="scaled_linear",
        prediction_type=prediction_type,
        clip_sample=False,
        set_alpha_to_one=True,
        rescale_betas_zero_snr=is_sample,
        timestep_spacing="trailing",
    )
    return scheduler


def tiny_editor(
    codec: Literal["kl", "patch"] = "kl",
    *,
    prediction_type: PredictionType | None = None,
    has_vision: bool = True,
    align: bool = False,
    seed: int = 0,
) -> Editor:
    """A whole system with random weights, in eval mode.

    Args:
        codec: ``kl`` = ``AutoencoderKL`` and a UNet that predicts noise, as the paper's size; ``patch`` =
            ``PatchAutoencoder`` and a UNet that gives gain and bias on the source, as the small sizes.
        prediction_type: Another one than the codec's.
        has_vision: Whether the guide sees the image.
        align: Whether the guide gives ``loss_align``.
        seed: Of the weights; torch's global state is left alone.

    Returns:
        An editor on the CPU; the same arguments give the same weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        guide = tiny_guide(has_vision=has_vision, align=align)
        if codec == "kl":
            scheduler = tiny_scheduler(prediction_type or "epsilon")
            return Editor(guide, tiny_kl_autoencoder(), tiny_unet(4, 4), scheduler).eval()
        channels = 3 * 2**2
        unet = tiny_unet(channels, 2 * channels, has_pooled_condition=True)
        zero_output(unet)
        scheduler = tiny_scheduler(prediction_type or "sample")
        return Editor(
            guide, PatchAutoencoder(patch_size=2, scaling_factor=0.8), unet, scheduler, source_scale=0.5
        ).eval()
