"""Where the weights at the start of a training come from: published folders, or random draws."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from accelerate import init_empty_weights
from torch import nn

from mgie_lit.checkpoints.loading import load_autoencoder, load_edit_head, load_mllm, load_unet
from mgie_lit.models.initialise import draw_tables, redraw_bias, redraw_linear

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from omegaconf import DictConfig

    from mgie_lit.editor import Editor
    from mgie_lit.faults import Faults
    from mgie_lit.guides.mllm import MLLMGuide


def without_draws(source: str | None) -> AbstractContextManager[None]:
    """Build modules without drawing weights that are loaded from ``source`` right after; as usual if it is None."""
    return nullcontext() if source is None else _unallocated()


@contextmanager
def _unallocated() -> Iterator[None]:
    with init_empty_weights(include_buffers=False):
        yield


def load_start(editor: Editor, guide: MLLMGuide, config: DictConfig, faults: Faults) -> None:
    """Fill the parts whose ``size.start`` names a folder, and keep the released code's faults if asked for.

    Args:
        editor: Changed in place.
        guide: Of the editor.
        config: With ``size.start``.
        faults: What of the released code's start is kept.

    Raises:
        CheckpointError: A folder is missing, or its weights do not fit; the message says which.
    """
    start = config.size.start
    if start.mllm is not None:
        _allocate(guide.mllm)
        draw_tables(guide.mllm.language_model)  # rows of tokens that the folder does not know
        load_mllm(guide.mllm, start.mllm)
    if start.edit_head is not None:
        load_edit_head(guide.edit_head, start.edit_head)
    if start.diffusion is not None:
        _allocate(editor.autoencoder)
        _allocate(editor.unet)
        load_autoencoder(editor.autoencoder, start.diffusion)
        load_unet(editor.unet, start.diffusion)
        if faults.random_conv_in_bias and not editor.unet.conv_in.weight[:, editor.latent_channels :].any():
            redraw_bias(editor.unet.conv_in)
    if faults.redraw_linear:
        for part in (editor.unet, editor.autoencoder, guide.edit_head):
            redraw_linear(part)
    if faults.half_vision_tower and guide.mllm.vision_tower is not None:
        guide.mllm.vision_tower.half()  # type: ignore[no-untyped-call]


def start_sources(config: DictConfig) -> dict[str, str]:
    """Parts whose frozen weights can be loaded again.

    Args:
        config: Of a run.

    Returns:
        Name prefix of the editor's parameters -> folder.
    """
    start = config.size.get("start") or {}
    sources = {"guide.mllm": start.get("mllm"), "autoencoder": start.get("diffusion"), "unet": start.get("diffusion")}
    if "faults" in config and config.faults.redraw_linear:
        sources = {"guide.mllm": sources["guide.mllm"]}  # the others are not what the folder holds
    return {prefix: str(folder) for prefix, folder in sources.items() if folder is not None}


def _allocate(module: nn.Module) -> None:
    """Give parameters without memory some, of any content, in place."""
    for part in module.modules():
        for name, parameter in part.named_parameters(recurse=False):
            if parameter.is_meta:
                empty = torch.empty_like(parameter, device="cpu")
                part.register_parameter(name, nn.Parameter(empty, requires_grad=parameter.requires_grad))
