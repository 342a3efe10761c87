"""Keys and values of what a language model has read: the memory that lets it go on without reading again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING

import torch
from transformers.models.llama.modeling_llama import LlamaDecoderLayer

if TYPE_CHECKING:
    from torch import Tensor


# What LLaMA's layers call their cache: transformers 5.24 has renamed it
CACHE_ARGUMENT = "cache" if "cache" in signature(LlamaDecoderLayer.forward).parameters else "past_key_values"


class KeyValueCache:
    """Keys and values of all layers, in buffers of their final length; all that LLaMA's attention asks of a cache.

    transformers' growing cache copies everything for every token; its preallocated one gives attention the unused slots
    too, so that each step needs a mask and pays for them.

    Args:
        num_layers: Layers of the language model.
        capacity: Slots, i.e. tokens of the longest row with its padding.
    """

    def __init__(self, num_layers: int, capacity: int) -> None:
        self.capacity = capacity
        self._layers: list[tuple[Tensor, Tensor] | None] = [None] * num_layers
        self._lengths = [0] * num_layers  # they differ only while tokens are on their way through the layers

    @property
    def length(self) -> int:
        """Slots in use."""
        return self._lengths[-1]

    def crop(self, length: int) -> None:
        """Forget what stands after the first ``length`` slots."""
        self._lengths = [min(length, used) for used in self._lengths]

    def update(self, keys: Tensor, values: Tensor, layer_idx: int, *_: object, **__: object) -> tuple[Tensor, Tensor]:
        """Store what a layer made of new tokens, and give all that it has.

        Args:
            keys: ``(B, heads, S, d)`` of the new tokens.
            values: ``(B, heads, S, d)``.
            layer_idx: Index of the layer (transformers' name).

        Returns:
            Keys and values of all slots in use and of the new tokens, ``(B, heads, length + S, d)``; views.
        """
        buffers = self._layers[layer_idx]
        if buffers is None:
            buffers = self._layers[layer_idx] = (_buffer(keys, self.capacity), _buffer(values, self.capacity))
        start = self._lengths[layer_idx]
        end = self._lengths[layer_idx] = start + keys.shape[2]
        for buffer, new in zip(buffers, (keys, values), strict=True):
            buffer[:, :, start:end] = new
        return buffers[0][:, :, :end], buffers[1][:, :, :end]

    def row(self, index: int) -> KeyValueCache:
        """The slots in use of one row, as a copy without spare ones."""
        return KeyValueCache.stack([self], length=self.length, capacity=self.length, row=index)

    @staticmethod
    def stack(caches: Sequence[KeyValueCache], *, length: int, capacity: int, row: int = 0) -> KeyValueCache:
        """A cache whose rows begin with the same row of others.

        Args:
            caches: One for every row; the same one may stand in many places.
            length: How many of their slots are taken over, at least 1.
            capacity: Slots of the new cache.
            row: Which row of each cache.

        Returns:
            A copy, ``length`` slots of it in use.
        """
        stacked = KeyValueCache(len(caches[0]._layers), capacity)
        for layer in range(len(stacked._layers)):
            parts = [cache._stored(layer) for cache in caches]
            keys, values = (torch.stack([part[kind][row, :, :length] for part in parts]) for kind in (0, 1))
            stacked.update(keys, values, layer)
        return stacked

    def _stored(self, layer: int) -> tuple[Tensor, Tensor]:
        buffers = self._layers[layer]
        assert buffers is not None, "nothing was read yet"
        return buffers


@dataclass(frozen=True, slots=True)
class Prefix:
    """What a language model keeps of the beginning of a prompt."""

    cache: KeyValueCache  # one row
    states: Tensor  # (P, D) after the final norm; (0, D) where they were not asked for


def _buffer(like: Tensor, capacity: int) -> Tensor:
    batch, heads, _, width = like.shape
    return like.new_empty(batch, heads, capacity, width)
