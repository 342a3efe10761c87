"""LPIPS (Zhang et al. 2018, arXiv:1801.03924): distance of deep features, weighted by learnt heads.

Axes: ``B`` batch, ``C`` channels of a layer, ``h w`` positions of a layer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Sequence

SHIFT = (-0.030, -0.088, -0.188)  # of pixels in [-1, 1]; the authors' rounding of ImageNet's mean
SCALE = (0.458, 0.448, 0.450)  # the same of ImageNet's deviation
_EPSILON = 1e-8  # added to the squared length of a feature vector, as in torchmetrics


def scale_pixels(images: Float[Tensor, "B 3 H W"]) -> Float[Tensor, "B 3 H W"]:
    """Pixels in [0, 1] as the backbones of LPIPS see them.

    >>> scale_pixels(torch.full((1, 3, 1, 1), 0.5)).flatten()
    tensor([0.0655, 0.1964, 0.4178])
    """
    shift = torch.tensor(SHIFT, dtype=images.dtype, device=images.device).view(3, 1, 1)
    scale = torch.tensor(SCALE, dtype=images.dtype, device=images.device).view(3, 1, 1)
    return (2.0 * images - 1.0 - shift) / scale


def lpips_distance(preds: Sequence[Tensor], target: Sequence[Tensor], heads: Sequence[Tensor]) -> Float[Tensor, " B"]:
    """Sum over layers of the mean weighted squared difference of unit feature vectors.

    Args:
        preds: A layer each ``(B, C, h, w)`` float.
        target: Same shapes.
        heads: A layer each ``(C,)``, the learnt weights, not negative.

    Returns:
        ``(B,)``, 0 for equal images, dtype of the features.

    Raises:
        ValueError: Numbers or shapes of the layers do not agree.
    """
    shapes = [[tuple(layer.shape) for layer in layers] for layers in (preds, target)]
    widths = [tuple(head.shape) for head in heads]
    if not heads or shapes[0] != shapes[1] or [shape[1:2] for shape in shapes[0]] != widths:
        raise ValueError(
            f"lpips: expected features of one shape and a head (C,) a layer, got preds {shapes[0]}, target "
            f"{shapes[1]}, heads {widths}; take backbone and heads of one network"
        )
    layers = zip(preds, target, heads, strict=True)
    return torch.stack([_layer_distance(one, other, head) for one, other, head in layers]).sum(0)


def _layer_distance(preds: Tensor, target: Tensor, head: Tensor) -> Tensor:
    squared = (_unit(preds) - _unit(target)).square()  # (B, C, h, w)
    return (squared * head.view(1, -1, 1, 1)).sum(1).mean((1, 2))


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(1, keepdim=True) + _EPSILON).sqrt()
