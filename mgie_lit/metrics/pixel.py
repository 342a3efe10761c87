"""Metrics that compare the pixels of the edited image with those of the target."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from mgie_lit.functional import similarity
from mgie_lit.metrics.base import SampleMetric


class L1(SampleMetric):
    """Mean absolute pixel difference, in [0, 1]; the paper's L1."""

    name: ClassVar[str] = "l1"
    higher_is_better = False

    def score(self, preds: Tensor, target: Tensor) -> Tensor:
        """Two ``(B, 3, H, W)`` in [0, 1] -> ``(B,)``."""
        return similarity.l1_distance(preds, target)


class L2(SampleMetric):
    """Mean squared pixel difference (no root), in [0, 1]."""

    name: ClassVar[str] = "l2"
    higher_is_better = False

    def score(self, preds: Tensor, target: Tensor) -> Tensor:
        """Two ``(B, 3, H, W)`` in [0, 1] -> ``(B,)``."""
        return similarity.l2_distance(preds, target)


class PSNR(SampleMetric):
    """Peak signal-to-noise ratio in dB, data range 1; equal images get :data:`similarity.PSNR_CEILING`."""

    name: ClassVar[str] = "psnr"
    higher_is_better = True

    def score(self, preds: Tensor, target: Tensor) -> Tensor:
        """Two ``(B, 3, H, W)`` in [0, 1] -> ``(B,)`` dB."""
        return similarity.psnr(preds, target)

    def describe(self) -> dict[str, object]:
        """Adds the data range and what equal images get."""
        return super().describe() | {"data_range": 1.0, "ceiling_db": similarity.PSNR_CEILING}


class SSIM(SampleMetric):
    """Structural similarity, in [-1, 1]; does not apply to images smaller than its window of 11 pixels."""

    name: ClassVar[str] = "ssim"
    higher_is_better = True

    def score(self, preds: Tensor, target: Tensor) -> Tensor:
        """Two ``(B, 3, H, W)`` in [0, 1] -> ``(B,)``; NaN where a side is under 11 pixels."""
        if min(preds.shape[-2:]) < similarity.SSIM_WINDOW:
            return torch.full((len(preds),), torch.nan, device=preds.device)
        return similarity.ssim(preds, target)

    def describe(self) -> dict[str, object]:
        """Adds the window and the border rule."""
        return super().describe() | {
            "window": similarity.SSIM_WINDOW,
            "sigma": similarity.SSIM_SIGMA,
            "covariance": "population",
            "data_range": 1.0,
            "border": "only windows inside the image",
        }
