"""What a metric may read of the samples that it scores."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from mgie_lit.functional.images import pil_to_unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from PIL import Image
    from torch import Tensor


@dataclass(frozen=True)
class MetricInputs:
    """A few samples whose images all have one size; a metric names the attributes that it reads in ``needs``.

    The tensors ``preds``, ``target`` and ``source`` are made when they are first read.
    """

    sample_ids: Sequence[str]
    pred_images: Sequence[Image.Image]  # RGB, the target's size: what is scored
    target_images: Sequence[Image.Image]  # RGB
    source_images: Sequence[Image.Image]  # RGB, the target's size
    masks: Sequence[Image.Image | None]  # L, the target's size; 255 = the edit may change it
    instructions: Sequence[str]
    captions: Sequence[str | None]  # description of the target
    pred_texts: Sequence[str]  # expressive instruction that the system wrote; "" where it writes none
    target_texts: Sequence[str | None]  # expressive instruction of the data set
    source_captions: Sequence[str | None] = ()  # description of the source; one a sample, or none at all

    def __post_init__(self) -> None:
        """Fill in what data sets rarely have."""
        if not self.source_captions:
            object.__setattr__(self, "source_captions", [None] * len(self.sample_ids))

    @cached_property
    def preds(self) -> Tensor:
        """What is scored, ``(B, 3, H, W)`` float64 in [0, 1]."""
        return _stack(self.pred_images)

    @cached_property
    def target(self) -> Tensor:
        """The ground truth, ``(B, 3, H, W)`` float64 in [0, 1]."""
        return _stack(self.target_images)

    @cached_property
    def source(self) -> Tensor:
        """The given image, ``(B, 3, H, W)`` float64 in [0, 1]."""
        return _stack(self.source_images)

    def __len__(self) -> int:
        """Number of samples."""
        return len(self.sample_ids)

    def select(self, needs: Sequence[str]) -> Mapping[str, object]:
        """The attributes named in ``needs``, as keyword arguments for :meth:`SampleMetric.score`."""
        return {name: getattr(self, name) for name in needs}


AVAILABLE = (*(entry.name for entry in fields(MetricInputs)), "preds", "target", "source")
READS_PREDICTED_IMAGE = frozenset({"preds", "pred_images"})


def _stack(images: Sequence[Image.Image]) -> Tensor:
    """In float64: PSNR and SSIM then agree with other programs beyond the sixth digit."""
    levels = torch.stack([pil_to_unit(image) for image in images]).double()
    return levels.mul_(255.0).round_().div_(255.0)  # float32 can not hold a 255th exactly
