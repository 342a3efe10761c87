"""Pixel similarity inside a region: the part that an edit may change, or the part that it must leave alone.

Axes: ``B`` batch, ``H W`` pixels.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from mgie_lit.functional.similarity import PSNR_CEILING, SSIM_WINDOW, l1_distance, ssim_map

if TYPE_CHECKING:
    from collections.abc import Callable


def masked_l1(preds: Tensor, target: Tensor, region: Bool[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Mean absolute difference over the pixels of a region and all colours.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1].
        target: Same shape and range.
        region: ``(B, H, W)``, True = counts.

    Returns:
        ``(B,)`` in [0, 1], dtype and device of ``preds``; NaN where the region is empty.

    Raises:
        ValueError: The images are not float batches of one shape in [0, 1], or the region has another size.

    >>> black, white = torch.zeros(1, 3, 1, 2), torch.tensor([0.0, 1.0]).expand(1, 3, 1, 2)
    >>> masked_l1(black, white, torch.tensor([[[False, True]]]))
    tensor([1.])
    """
    return _masked_mean(preds, target, region, torch.Tensor.abs)


def masked_l2(preds: Tensor, target: Tensor, region: Bool[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Mean squared difference (no root) over the pixels of a region and all colours.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1].
        target: Same shape and range.
        region: ``(B, H, W)``, True = counts.

    Returns:
        ``(B,)`` in [0, 1], dtype and device of ``preds``; NaN where the region is empty.

    Raises:
        ValueError: As :func:`masked_l1`.
    """
    return _masked_mean(preds, target, region, torch.Tensor.square)


def masked_psnr(
    preds: Tensor, target: Tensor, region: Bool[Tensor, "B H W"], *, ceiling: float = PSNR_CEILING
) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio in dB over a region, at a data range of 1.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1].
        target: Same shape and range.
        region: ``(B, H, W)``, True = counts.
        ceiling: dB given to regions that are equal or nearly so.

    Returns:
        ``(B,)`` in [0, ceiling], dtype and device of ``preds``; NaN where the region is empty.

    Raises:
        ValueError: As :func:`masked_l1`.
    """
    floor = 10.0 ** (-ceiling / 10.0)
    return masked_l2(preds, target, region).clamp_min(floor).log10().mul(-10.0)


def masked_ssim(preds: Tensor, target: Tensor, region: Bool[Tensor, "B H W"]) -> Float[Tensor, " B"]:
    """Structural similarity, mean over colours and over the windows inside the image whose centre is in a region.

    A window of 11x11 pixels reaches 5 pixels beyond the region's edge.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1], both sides at least 11 pixels.
        target: Same shape and range.
        region: ``(B, H, W)``, True = counts.

    Returns:
        ``(B,)`` in [-1, 1], dtype and device of ``preds``; NaN where no window has its centre in the region.

    Raises:
        ValueError: As :func:`masked_l1`, or the images are smaller than the window.
    """
    _check_region(preds, region)
    border = SSIM_WINDOW // 2
    centres = region[:, border:-border, border:-border].unsqueeze(1)  # (B, 1, H - 10, W - 10)
    return _mean_where(ssim_map(preds, target), centres).to(preds.dtype)


def _masked_mean(preds: Tensor, target: Tensor, region: Tensor, distance: Callable[[Tensor], Tensor]) -> Tensor:
    _check_region(preds, region)
    l1_distance(preds[:1], target[:1])  # refuses what is no pair of image batches
    difference = distance((preds - target).to(torch.float64 if preds.dtype == torch.float64 else torch.float32))
    return _mean_where(difference, region.unsqueeze(1)).to(preds.dtype)


def _mean_where(values: Tensor, region: Tensor) -> Tensor:
    """Mean over the colours and chosen positions of each image: ``(B, 3, h, w)``, ``(B, 1, h, w)`` -> ``(B,)``."""
    means = [one[:, chosen[0]].double().mean() for one, chosen in zip(values, region, strict=True)]  # NaN if none
    return torch.stack(means)


def _check_region(preds: Tensor, region: Tensor) -> None:
    if region.dtype != torch.bool or preds.ndim != 4 or region.shape != (len(preds), *preds.shape[2:]):
        raise ValueError(
            f"region: expected booleans of shape (B, H, W) for images {tuple(preds.shape)}, got {region.dtype} "
            f"{tuple(region.shape)}; resize the mask to the target's size"
        )
