"""Weights at the start of a training that are not loaded and not left to the libraries."""

from __future__ import annotations

import math
from typing import cast

from torch import nn
from transformers import LlamaForCausalLM

LLAMA_STD = 0.02  # LLaMA's initializer_range


def redraw_linear(module: nn.Module) -> None:
    """Draw every linear layer anew in place, N(0, 0.02) and zero bias, and leave all else.

    Loading MGIE as one Hugging Face model does this to parts whose keys the LLM's files lack: the released code trains
    a Stable Diffusion without its attention weights. Not what anybody wants; here to compare with.

    Args:
        module: Changed in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=LLAMA_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def redraw_bias(layer: nn.Conv2d) -> None:
    """Give a convolution the random bias of a new one, in place: what ml-mgie leaves of a widened ``conv_in``."""
    fan_in = layer.weight[0].numel()
    nn.init.uniform_(cast("nn.Parameter", layer.bias), -1 / math.sqrt(fan_in), 1 / math.sqrt(fan_in))


def draw_tables(language_model: LlamaForCausalLM) -> None:
    """Draw word embeddings and LM head as LLaMA's are, N(0, 0.02), in place: rows that no folder brings."""
    for table in (language_model.get_input_embeddings(), language_model.lm_head):
        nn.init.normal_(cast("nn.Parameter", table.weight), std=LLAMA_STD)
