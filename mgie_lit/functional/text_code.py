"""A fixed code of a text, without weights: what an untrained edit head can be aligned with."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


def random_token_codes(vocab_size: int, dim: int, *, seed: int) -> Float[Tensor, "V D"]:
    """Standard normal code of every token id, ``(vocabulary, dim)``; the same on every machine for a seed."""
    return torch.randn(vocab_size, dim, generator=torch.Generator().manual_seed(seed))


def bag_of_tokens_code(
    token_ids: Int[Tensor, "B S"], mask: Bool[Tensor, "B S"], token_codes: Float[Tensor, "V D"]
) -> Float[Tensor, "B D"]:
    """Code of a text: the sum of its tokens' codes over the root of their number, so about standard normal.

    Texts that share words have codes that are alike, as the features of a text encoder are.

    Args:
        token_ids: ``(B, S)``.
        mask: ``(B, S)``, True for the tokens that count.
        token_codes: ``(vocabulary, D)`` standard normal.

    Returns:
        ``(B, D)``; zeros for an empty text.
    """
    weights = mask.to(token_codes.dtype)[..., None]  # (B, S, 1)
    total = (token_codes[token_ids * mask] * weights).sum(dim=1)  # (B, D)
    return total / weights.sum(dim=1).clamp(min=1.0).sqrt()
