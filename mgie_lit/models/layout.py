"""How weights lie in memory: otherwise where they edit than where they train. Values and names stay.

An edit changes by rounding. Why a training has the plain layout: ``docs/decisions/0004-layout-of-weights.md``.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import nn
from transformers import LlamaForCausalLM

_TRAINS = "_lies_plainly"  # attribute of what is trained at this time


def lay_for_editing(editor: nn.Module) -> None:
    """Lay weights as an edit reads them fastest, in place, on the device where they are; a second time does nothing.

    Args:
        editor: Whatever holds UNets or language models; those that are being trained stay as they are.
    """
    with torch.inference_mode(False):  # its tensors could not be trained later
        for part in _laid(editor):
            if _TRAINS in part.__dict__:
                continue
            if isinstance(part, LlamaForCausalLM):
                _lay_columns(part)
            elif part.conv_in.weight.is_contiguous():
                part.to(memory_format=torch.channels_last)  # type: ignore[call-arg]


def lay_for_training(module: nn.Module) -> None:
    """Lay all weights plainly, in place, and let no edit change that before :func:`release`.

    Args:
        module: Whatever holds parameters.
    """
    for parameter in module.parameters():
        if parameter.stride() != torch.empty(parameter.shape, device="meta").stride():
            parameter.data = _plain(parameter.data)
    for part in _laid(module):
        part.__dict__[_TRAINS] = True


def release(module: nn.Module) -> None:
    """Say that a training has ended: edits may lay its weights again."""
    for part in _laid(module):
        part.__dict__.pop(_TRAINS, None)


def _laid(module: nn.Module) -> Iterator[LlamaForCausalLM | UNet2DConditionModel]:
    return (part for part in list(module.modules()) if isinstance(part, (LlamaForCausalLM, UNet2DConditionModel)))


def _lay_columns(language_model: LlamaForCausalLM) -> None:
    """Column by column in float32 on a CPU: a new word reads all matrices, each for one vector, and columns faster."""
    table = language_model.get_input_embeddings().weight  # looked up row by row
    for part in language_model.modules():
        if not isinstance(part, nn.Linear) or part.weight is table:
            continue
        weight = part.weight.data
        gains = weight.device.type == "cpu" and weight.dtype == torch.float32
        if gains and weight.is_contiguous():
            part.weight.data = weight.t().contiguous().t()
        elif not gains and not weight.is_contiguous():  # it was moved or converted since
            part.weight.data = _plain(weight)


def _plain(weight: torch.Tensor) -> torch.Tensor:
    return weight.contiguous().view(-1).view(weight.shape)  # strides of sides of one, too
