"""Where the weights at the start of a training come from: published folders, or random draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import init_empty_weights
from torch import nn

from mgie_lit.checkpoints.diffusion_source import scheduler_config
from mgie_lit.checkpoints.loading import load_autoencoder, load_edit_head, load_mllm, load_unet
from mgie_lit.checkpoints.text_encoder import load_text_encoder
from mgie_lit.errors import ConfigError
from mgie_lit.models.initialise import draw_tables, redraw_bias, redraw_linear

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from omegaconf import DictConfig

    from mgie_lit.editor import Editor
    from mgie_lit.faults import Faults


def without_draws(source: str | None) -> AbstractContextManager[None]:
    """Build modules without drawing weights that are loaded from ``source`` right after; as usual if it is None."""
    return nullcontext() if source is None else _unallocated()


@contextmanager
def _unallocated() -> Iterator[None]:
    with init_empty_weights(include_buffers=False):
        yield


def load_start(editor: Editor, guide: nn.Module, config: DictConfig, faults: Faults) -> None:
    """Fill the parts whose ``size.start`` names a folder, and keep the released code's faults if asked for.

    Args:
        editor: Changed in place.
        guide: Of the editor; what it has of ``mllm``, ``edit_head`` and ``text_encoder`` is filled.
        config: With ``size.start``.
        faults: What of the released code's start is kept.

    Raises:
        CheckpointError: A folder is missing, or its weights do not fit; the message says which.
        ConfigError: The weights predict something else than ``sampler`` says.
    """
    start = config.size.start
    mllm: Any = getattr(guide, "mllm", None)
    edit_head: Any = getattr(guide, "edit_head", None)
    text_encoder: Any = getattr(guide, "text_encoder", None)
    if mllm is not None and start.mllm is not None:
        _allocate(mllm)
        draw_tables(mllm.language_model)  # rows of tokens that the folder does not know
        load_mllm(mllm, start.mllm, vision=start.vision)
    if edit_head is not None and start.edit_head is not None:
        load_edit_head(edit_head, start.edit_head)
    if text_encoder is not None and start.diffusion is not None:
        _allocate(text_encoder)
        load_text_encoder(text_encoder, start.diffusion)
    if start.diffusion is not None:
        _allocate(editor.autoencoder)
        _allocate(editor.unet)
        _check_prediction(editor.prediction_type, start.diffusion)
        load_autoencoder(editor.autoencoder, start.diffusion)
        load_unet(editor.unet, start.diffusion)
        if faults.random_conv_in_bias and not editor.unet.conv_in.weight[:, editor.latent_channels :].any():
            redraw_bias(editor.unet.conv_in)
    if faults.redraw_linear and start.edit_head is None:  # a trained MGIE has all its keys, so nothing of it is drawn
        for part in (editor.unet, editor.autoencoder, *([] if edit_head is None else [edit_head])):
            redraw_linear(part)
    if faults.half_vision_tower and mllm is not None and mllm.vision_tower is not None:
        mllm.vision_tower.half()


def start_sources(config: DictConfig) -> dict[str, str]:
    """Parts whose frozen weights can be loaded again.

    Args:
        config: Of a run.

    Returns:
        Name prefix of the editor's parameters -> folder.
    """
    start = config.size.get("start") or {}
    sources = {"guide.mllm": start.get("mllm"), "guide.text_encoder": start.get("diffusion")}
    is_redrawn = "faults" in config and config.faults.redraw_linear and start.get("edit_head") is None
    if not is_redrawn:  # which leaves them other than the folder holds them
        sources |= {"autoencoder": start.get("diffusion"), "unet": start.get("diffusion")}
    return {prefix: str(folder) for prefix, folder in sources.items() if folder is not None}


def _check_prediction(prediction_type: str, folder: str) -> None:
    """A UNet goes on predicting what it was trained to: the folder's scheduler says what, if it has one."""
    if not (Path(folder) / "scheduler").is_dir():
        return
    trained = scheduler_config(Path(folder)).get("prediction_type", "epsilon")
    if trained != prediction_type:
        raise ConfigError(
            f"sampler.scheduler.prediction_type: expected {trained}, as the weights of size.start.diffusion={folder} "
            f"were trained to predict, got {prediction_type}; choose another sampler= (ddim and euler_ancestral "
            "predict epsilon, few_steps predicts sample)"
        )


def _allocate(module: nn.Module) -> None:
    """Give parameters without memory some, of any content, in place."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device="cpu")
                part.register_parameter(name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
