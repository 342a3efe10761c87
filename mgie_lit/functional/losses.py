"""The losses of MGIE (arXiv:2309.17102, eq. 3 to 5)."""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from mgie_lit.vocabulary import IGNORE_INDEX


def edit_loss(
    preds: Float[Tensor, "B C h w"], target: Float[Tensor, "B C h w"], *, target_variance: float = 1.0
) -> Float[Tensor, ""]:
    """Mean squared error of the denoiser, in units of the target's variance (arXiv:2309.17102, eq. 4).

    Args:
        preds: ``(B, C, h, w)`` network output.
        target: ``(B, C, h, w)`` noise, velocity or clean latents, as the prediction type asks.
        target_variance: Variance of the target, so that predicting its mean costs 1; 1 for noise.

    Returns:
        Scalar float32, at least 0.
    """
    return F.mse_loss(preds.float(), target.float()) / target_variance


def instruction_loss(
    logits: Float[Tensor, "N V"],
    labels: Int[Tensor, " N"],
    *,
    num_labels: Float[Tensor, ""] | None = None,
    nan_without_labels: bool = False,
) -> Float[Tensor, ""]:
    """Cross entropy of the expressive instruction and visual tokens (arXiv:2309.17102, eq. 3).

    Args:
        logits: ``(N, vocabulary)``, each predicting the label beside it (already shifted).
        labels: ``(N,)`` token ids; ``IGNORE_INDEX`` = no loss.
        num_labels: Scalar that the sum is divided by: labels of the average batch where a step has several of them, so
            that their mean is the mean over all labels. None = the labels of this one.
        nan_without_labels: Divide by zero where nothing is labelled, as ml-mgie.

    Returns:
        Nats per labelled token; 0 (with a graph) where nothing is labelled.
    """
    return _per_label(_nats(logits, labels), labels, num_labels, nan_without_labels=nan_without_labels)


def chunked_instruction_loss(
    states: Float[Tensor, "N D"],
    labels: Int[Tensor, " N"],
    head: Callable[[Tensor], Tensor],
    *,
    chunk_size: int,
    num_labels: Float[Tensor, ""] | None = None,
    nan_without_labels: bool = False,
) -> Float[Tensor, ""]:
    """:func:`instruction_loss` of states, with the scores of at most ``chunk_size`` labels in memory.

    One chunk is computed as it is. Of several, each one's scores are let go and computed again in the backward: one
    product of three more, for memory that does not grow with the number of labels.

    Args:
        states: ``(N, D)`` hidden states.
        labels: ``(N,)`` token ids; ``IGNORE_INDEX`` = no loss.
        head: ``(n, D)`` -> scores ``(n, vocabulary)``; the same whenever it is called.
        chunk_size: Labels whose scores are held at once, at least 1.
        num_labels: As for :func:`instruction_loss`.
        nan_without_labels: As for :func:`instruction_loss`.

    Returns:
        Nats per labelled token, equal to :func:`instruction_loss` of all scores but for rounding.
    """
    if len(labels) <= chunk_size:
        total = _nats(head(states), labels)
    else:
        chunks = [slice(first, first + chunk_size) for first in range(0, len(labels), chunk_size)]
        total = sum(
            checkpoint(
                lambda rows, ids: _nats(head(rows), ids),
                *(states[chunk], labels[chunk]),
                use_reentrant=False,
                preserve_rng_state=False,
            )
            for chunk in chunks
        )
    return _per_label(total, labels, num_labels, nan_without_labels=nan_without_labels)


def alignment_loss(preds: Float[Tensor, "B Q D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Mean squared distance of the condition's vectors to one code of the text (GILL, arXiv:2305.17216, eq. 2)."""
    return F.mse_loss(preds.float(), target.float()[:, None].expand_as(preds))


def _nats(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")


def _per_label(total: Tensor, labels: Tensor, num_labels: Tensor | None, *, nan_without_labels: bool) -> Tensor:
    if num_labels is None:
        num_labels = (labels != IGNORE_INDEX).sum()
    return total / (num_labels if nan_without_labels else num_labels + (num_labels == 0))
