"""The losses of MGIE (arXiv:2309.17102, eq. 3 to 5)."""

from __future__ import annotations

import torch.nn.functional as F  # noqa: N812
from jaxtyping import Float, Int
from torch import Tensor

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
    total = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="sum")
    if num_labels is None:
        num_labels = (labels != IGNORE_INDEX).sum()
    return total / (num_labels if nan_without_labels else num_labels + (num_labels == 0))


def alignment_loss(preds: Float[Tensor, "B Q D"], target: Float[Tensor, "B D"]) -> Float[Tensor, ""]:
    """Mean squared distance of the condition's vectors to one code of the text (GILL, arXiv:2305.17216, eq. 2)."""
    return F.mse_loss(preds.float(), target.float()[:, None].expand_as(preds))
