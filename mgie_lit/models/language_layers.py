"""LLaMA's layers one after the other, with a cache of ours, and without what nobody reads."""

from __future__ import annotations

from typing import cast

from torch import Tensor
from transformers.models.llama.modeling_llama import LlamaAttention, LlamaDecoderLayer, LlamaModel, apply_rotary_pos_emb

from mgie_lit.models.key_values import CACHE_ARGUMENT, KeyValueCache


def run_layers(
    model: LlamaModel,
    embeddings: Tensor,
    positions: Tensor,
    attention_mask: Tensor | None = None,
    cache: KeyValueCache | None = None,
    num_states: int | None = None,
) -> Tensor:
    """All layers of a language model and the final norm.

    Args:
        model: Without its LM head.
        embeddings: ``(B, S, D)``.
        positions: ``(B, S)`` or ``(1, S)``, counted from 0.
        attention_mask: ``(B, 1, S, L)`` or ``(1, 1, S, L)``; None = each token sees all up to its own.
        cache: Holds what came before, and takes the tokens' keys and values; None = they come first.
        num_states: Of the last tokens, those whose states are wanted; of the others the last layer only makes keys and
            values for the cache. None = all are.

    Returns:
        Hidden states ``(B, S, D)``, or the last ``num_states`` of them.
    """
    rotation = model.rotary_emb(embeddings, position_ids=positions)
    hidden = embeddings
    layers = cast("list[LlamaDecoderLayer]", model.layers)
    for index, layer in enumerate(layers, 1):
        if index == len(layers) and num_states is not None:
            assert cache is not None
            unread = embeddings.shape[1] - num_states
            _store_keys_and_values(layer.self_attn, layer.input_layernorm(hidden[:, :unread]), rotation, cache)
            if not num_states:
                return hidden[:, unread:]
            hidden, positions = hidden[:, unread:], positions[:, unread:]
            rotation = (rotation[0][:, unread:], rotation[1][:, unread:])
            attention_mask = None if attention_mask is None else attention_mask[..., unread:, :]
        hidden = layer(
            hidden,
            attention_mask=attention_mask,
            position_ids=positions,
            position_embeddings=rotation,
            **{CACHE_ARGUMENT: cache},
        )
    return cast("Tensor", model.norm(hidden))


def _store_keys_and_values(
    attention: LlamaAttention, hidden: Tensor, rotation: tuple[Tensor, Tensor], cache: KeyValueCache
) -> None:
    """What LLaMA's attention stores of tokens whose own states nobody reads."""
    keys, values = (
        projection(hidden).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)  # (B, heads, S, d)
        for projection in (attention.k_proj, attention.v_proj)
    )
    cos, sin = (part[:, : hidden.shape[1]] for part in rotation)
    cache.update(apply_rotary_pos_emb(keys, keys, cos, sin)[1], values, attention.layer_idx)
