"""Layers of the language model that compute a training step in another way: keeping less, or compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

from mgie_lit.models.key_values import CACHE_ARGUMENT


class TrainingLlamaLayer(LlamaDecoderLayer):  # type: ignore[no-untyped-call]
    """A layer of the language model. The library's own switch does nothing in a frozen layer, which is in eval mode.

    Attributes:
        recomputes: It keeps its inputs alone for the backward and computes the rest again (arXiv:1604.06174).
        compiled: The library's ``forward`` as ``torch.compile`` gives it, with the layer as first argument; None = not.
    """

    recomputes = False
    compiled: Callable[..., Tensor] | None = None

    def forward(self, hidden_states: Tensor, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        """As the library's.

        So are passes without gradient, and those with a cache of keys and values: recomputing would fill it twice, and
        its length is another one in each pass, for which all would be compiled again.
        """
        plain = super().forward
        if not torch.is_grad_enabled() or kwargs.get(CACHE_ARGUMENT) is not None:
            return plain(hidden_states, *args, **kwargs)
        call: Callable[..., Tensor] = plain if self.compiled is None else partial(self.compiled, self)
        if not self.recomputes:
            return call(hidden_states, *args, **kwargs)
        states: Tensor = checkpoint(call, hidden_states, *args, use_reentrant=False, **kwargs)
        return states


def recompute_layers(language_model: nn.Module) -> None:
    """Let the layers of a language model keep their inputs alone, in place; names and weights stay.

    Args:
        language_model: LLaMA, or what holds one.
    """
    for layer in _training_layers(language_model):
        layer.recomputes = True


def compile_layers(language_model: nn.Module, backend: str | Callable[..., Any]) -> None:
    """Compile the layers of a language model, in place; names and weights stay.

    They share their code, which is compiled once for all of them; again for a second length of rows or size of batch,
    and then for any.

    Args:
        language_model: LLaMA, or what holds one.
        backend: Of ``torch.compile``.
    """
    compiled = torch.compile(LlamaDecoderLayer.forward, backend=backend)
    for layer in _training_layers(language_model):
        layer.__dict__["compiled"] = compiled


def plain_layers(language_model: nn.Module) -> None:
    """Undo :func:`recompute_layers` and :func:`compile_layers`."""
    for layer in _training_layers(language_model):
        layer.__dict__.pop("recomputes", None)
        layer.__dict__.pop("compiled", None)
        layer.__class__ = LlamaDecoderLayer  # type: ignore[assignment]


def _training_layers(language_model: nn.Module) -> Iterator[TrainingLlamaLayer]:
    for part in language_model.modules():
        if type(part) is LlamaDecoderLayer:
            part.__class__ = TrainingLlamaLayer
        if isinstance(part, TrainingLlamaLayer):
            yield part
