"""Gated feed-forward parts that keep two of their three wide results for the backward.

The graph of ``activation(gate) * up`` holds gate, activation and up, the widest tensors of a transformer. The
activation costs little, so it is computed again in the backward by the same operation: equal to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import LlamaMLP


class SparingLlamaMLP(LlamaMLP):
    """LLaMA's feed-forward part."""

    def forward(self, x: Tensor) -> Tensor:
        """``(*, D)`` -> ``(*, D)``."""
        projected: Tensor = self.down_proj(_gated(self.act_fn, self.gate_proj(x), self.up_proj(x)))
        return projected


class SparingGEGLU(GEGLU):
    """The gate of diffusers' transformer blocks (arXiv:2002.05202)."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``(*, D)`` -> ``(*, E)``."""
        up, gate = self.proj(hidden_states).chunk(2, dim=-1)
        return _gated(self.gelu, gate, up)


_SPARING: dict[type[nn.Module], type[nn.Module]] = {LlamaMLP: SparingLlamaMLP, GEGLU: SparingGEGLU}


def spare_gates(module: nn.Module) -> None:
    """Let all gated parts of a module keep less, in place; names and weights stay.

    Args:
        module: Whatever holds LLaMA's or diffusers' layers; parts of other classes stay as they are.
    """
    for part in module.modules():
        if type(part) in _SPARING:
            part.__class__ = _SPARING[type(part)]


def _gated(activation: Callable[[Tensor], Tensor], gate: Tensor, up: Tensor) -> Tensor:
    if torch.compiler.is_compiling() or not torch.is_grad_enabled():  # a compiler chooses by itself what to keep
        return activation(gate) * up
    product: Tensor = checkpoint(
        lambda gate, up: activation(gate) * up, gate, up, use_reentrant=False, preserve_rng_state=False
    )
    return product
