"""LLaMA's norms by torch's own operation: one kernel on a GPU, rounded otherwise; equal bits on a CPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm


class FusedRMSNorm(LlamaRMSNorm):
    """The norm of arXiv:1910.07467; statistics in float32, as the library's."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``(*, D)`` -> ``(*, D)``."""
        shape, eps = self.weight.shape, self.variance_epsilon
        if hidden_states.dtype == self.weight.dtype == torch.float32:
            return nn.functional.rms_norm(hidden_states, shape, self.weight, eps)
        # the library rounds between the two
        return self.weight * nn.functional.rms_norm(hidden_states.float(), shape, None, eps).to(hidden_states.dtype)


class MatrixInputRMSNorm(FusedRMSNorm):
    """One whose result only matrices read: autocast would convert it for each of them."""

    def forward(self, hidden_states: Tensor) -> Tensor:
        """``(*, D)`` -> ``(*, D)``, in autocast's type where that is on."""
        normal = super().forward(hidden_states)
        kind = normal.device.type
        if kind == "meta" or not torch.is_autocast_enabled(kind):
            return normal
        return normal.to(torch.get_autocast_dtype(kind))


def fuse_norms(module: nn.Module) -> None:
    """Let all norms of LLaMA's layers run as one operation, in place; names and weights stay.

    Args:
        module: Whatever holds them; norms of other classes stay as they are.
    """
    for part in module.modules():
        if isinstance(part, LlamaDecoderLayer):  # comes before its parts
            for norm in (part.input_layernorm, part.post_attention_layernorm):
                norm.__class__ = MatrixInputRMSNorm
        elif type(part) is LlamaRMSNorm:
            part.__class__ = FusedRMSNorm
