"""How weights lie in memory: otherwise where they edit than where they train. Values and names stay.

An edit changes by rounding. Why a training has the plain layout: ``docs/decisions/0004-layout-of-weights.md``.
"""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import LlamaForCausalLM


def lay_for_editing(editor: nn.Module) -> None:
    """Lay weights as an edit reads them fastest, in place, on the device where they are; a second time does nothing.

    Args:
        editor: Whatever holds a UNet or language models.
    """
    for part in list(editor.modules()):
        if isinstance(part, UNet2DConditionModel) and part.conv_in.weight.is_contiguous():
            part.to(memory_format=torch.channels_last)
        elif isinstance(part, LlamaForCausalLM):
            _lay_columns(part)


def lay_plain(module: nn.Module) -> None:
    """Undo :func:`lay_for_editing`, in place.

    Args:
        module: Whatever holds parameters.
    """
    for parameter in module.parameters():
        if parameter.stride() != torch.empty(parameter.shape, device="meta").stride():
            parameter.data = parameter.data.contiguous().view(-1).view(parameter.shape)


def _lay_columns(language_model: LlamaForCausalLM) -> None:
    """Column by column: a new word reads all matrices, each for one vector, and float32 on a CPU is so read faster."""
    table = language_model.get_input_embeddings().weight  # looked up row by row
    for part in language_model.modules():
        if not isinstance(part, nn.Linear) or part.weight is table:
            continue
        weight = part.weight.data
        if weight.device.type == "cpu" and weight.dtype == torch.float32 and weight.is_contiguous():
            part.weight.data = weight.t().contiguous().t()
