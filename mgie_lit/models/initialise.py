"""Weights at the start of a training that are not loaded and not left to the libraries."""

from __future__ import annotations

from torch import nn

REDRAWN_STD = 0.02  # LLaMA's initializer_range


def redraw_linear(module: nn.Module) -> None:
    """Draw every linear layer anew in place, N(0, 0.02) and zero bias, and leave all else.

    Loading MGIE as one Hugging Face model does this to parts whose keys the LLM's files lack: the released code trains
    a Stable Diffusion without its attention weights. Not what anybody wants; here to compare with.

    Args:
        module: Changed in place.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=REDRAWN_STD)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
