"""Pixel metrics inside and outside the mask of an edit: what had to change, and what had to stay."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import torch
from torch import Tensor

from mgie_lit.functional import masked, similarity
from mgie_lit.metrics.base import SampleMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

EDITED = 128  # gray level from which on a mask says that the edit may change a pixel


class MaskedMetric(SampleMetric):
    """A pixel metric over one side of the mask; does not apply to samples without a mask or with nothing on that side.

    A subclass has ``inside`` and :meth:`formula`.
    """

    needs: ClassVar[tuple[str, ...]] = ("preds", "target", "masks")
    inside: ClassVar[bool]  # False = outside
    smallest_side: ClassVar[int] = 1  # pixels

    @staticmethod
    @abstractmethod
    def formula(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """Images ``(B, 3, H, W)`` twice and what counts of them ``(B, H, W)`` -> ``(B,)``."""

    def score(self, preds: Tensor, target: Tensor, masks: Sequence[Image.Image | None]) -> Tensor:
        """Two ``(B, 3, H, W)`` in [0, 1] and masks of their size -> ``(B,)``; NaN where it does not apply."""
        scores = torch.full((len(preds),), torch.nan, device=preds.device)
        given = [index for index, mask in enumerate(masks) if mask is not None]
        if given and min(preds.shape[-2:]) >= self.smallest_side:
            region = torch.stack([_region(mask, self.inside) for mask in masks if mask is not None])
            scores[given] = self.formula(preds[given], target[given], region.to(preds.device)).to(scores.dtype)
        return scores

    def describe(self) -> dict[str, object]:
        """Adds which pixels count."""
        side = "inside" if self.inside else "outside"
        return super().describe() | {"region": f"{side} the mask", "mask": f"nearest pixel, edited from {EDITED} on"}


class L1Inside(MaskedMetric):
    """Mean absolute difference where the edit may change the image."""

    name: ClassVar[str] = "l1_inside"
    higher_is_better = False
    inside = True

    @staticmethod
    def formula(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """As :func:`masked.masked_l1`."""
        return masked.masked_l1(preds, target, region)


class L1Outside(L1Inside):
    """Mean absolute difference where the edit must leave the image alone."""

    name: ClassVar[str] = "l1_outside"
    inside = False


class L2Inside(MaskedMetric):
    """Mean squared difference where the edit may change the image."""

    name: ClassVar[str] = "l2_inside"
    higher_is_better = False
    inside = True

    @staticmethod
    def formula(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """As :func:`masked.masked_l2`."""
        return masked.masked_l2(preds, target, region)


class L2Outside(L2Inside):
    """Mean squared difference where the edit must leave the image alone."""

    name: ClassVar[str] = "l2_outside"
    inside = False


class PSNRInside(MaskedMetric):
    """Signal-to-noise ratio in dB where the edit may change the image."""

    name: ClassVar[str] = "psnr_inside"
    higher_is_better = True
    inside = True

    @staticmethod
    def formula(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """As :func:`masked.masked_psnr`."""
        return masked.masked_psnr(preds, target, region)


class PSNROutside(PSNRInside):
    """Signal-to-noise ratio in dB where the edit must leave the image alone."""

    name: ClassVar[str] = "psnr_outside"
    inside = False


class SSIMInside(MaskedMetric):
    """Structural similarity of the windows centred where the edit may change the image."""

    name: ClassVar[str] = "ssim_inside"
    higher_is_better = True
    inside = True
    smallest_side = similarity.SSIM_WINDOW

    @staticmethod
    def formula(preds: Tensor, target: Tensor, region: Tensor) -> Tensor:
        """As :func:`masked.masked_ssim`."""
        return masked.masked_ssim(preds, target, region)


class SSIMOutside(SSIMInside):
    """Structural similarity of the windows centred where the edit must leave the image alone."""

    name: ClassVar[str] = "ssim_outside"
    inside = False


def _region(mask: Image.Image, inside: bool) -> Tensor:
    """``(H, W)`` bool."""
    edited = torch.from_numpy(np.asarray(mask.convert("L")) >= EDITED)
    return edited if inside else ~edited
