"""Layers that keep their inputs alone for the backward and compute everything else again (arXiv:1604.06174)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from mgie_lit.models.key_values import CACHE_ARGUMENT


class RecomputedLlamaLayer(LlamaDecoderLayer):  # type: ignore[no-untyped-call]
    """A layer of the language model. The library's own switch does nothing in a frozen layer, which is in eval mode."""

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """As the library's; with a cache of keys and values, which a second pass would fill twice, all is kept."""
        plain = super().forward
        if not torch.is_grad_enabled() or kwargs.get(CACHE_ARGUMENT) is not None:
            return plain(hidden_states, *args, **kwargs)
        states: Tensor = checkpoint(plain, hidden_states, *args, use_reentrant=False, **kwargs)
        return states


def recompute_layers(language_model: nn.Module) -> None:
    """Let the layers of a language model keep their inputs alone, in place; names and weights stay.

    Args:
        language_model: LLaMA, or what holds one.
    """
    for part in language_model.modules():
        if type(part) is LlamaDecoderLayer:
            part.__class__ = RecomputedLlamaLayer
