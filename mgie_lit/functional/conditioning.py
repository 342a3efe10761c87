"""Classifier-free dropout of the two conditions (InstructPix2Pix, arXiv:2211.09800, section 3.2.1)."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor


def condition_dropout_masks(
    draws: Float[Tensor, " B"], *, text_prob: float, both_prob: float, image_prob: float
) -> tuple[Bool[Tensor, " B"], Bool[Tensor, " B"]]:
    """Which samples lose their text and which their source image, from one uniform draw each.

    The unit interval is cut into ``[text | both | image | keep]``, as in ml-mgie (3 x 5 %): at exactly ``text_prob``
    both are dropped, at exactly the end of ``image`` nothing is.

    Args:
        draws: ``(B,)`` uniform in [0, 1), compared in float32.
        text_prob: Share that loses the text alone, usually 0.05.
        both_prob: Share that loses both, usually 0.05.
        image_prob: Share that loses the image alone, usually 0.05.

    Returns:
        ``(drop_text, drop_image)``, each ``(B,)`` bool.

    Raises:
        ValueError: A probability is negative or they add up to more than 1.
    """
    probs = (text_prob, both_prob, image_prob)
    if min(probs) < 0 or sum(probs) > 1:
        raise ValueError(
            f"condition dropout: expected probabilities >= 0 with sum <= 1, got text={text_prob}, both={both_prob}, "
            f"image={image_prob}"
        )
    drop_text = draws < text_prob + both_prob
    drop_image = (draws >= text_prob) & (draws < text_prob + both_prob + image_prob)
    return drop_text, drop_image
