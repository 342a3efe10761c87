"""From an image to what a vision encoder sees, by fixed rules that are part of a metric's identity."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Preprocessing:
    """Resize the shorter side, cut a square out of the middle, normalise: the rules of published evaluation scripts.

    As torchvision's ``Resize`` and ``CenterCrop`` on PIL images, to the pixel: the longer side is rounded down, the
    crop's corner to the nearest even number.

    Args:
        size: Pixels of the shorter side after resizing; None = the encoder's own input side.
        crop: Pixels of the square's side, at most ``size``; None = the encoder's own input side.
        resample: A filter of PIL; all of them but ``nearest`` are antialiased.
        mean: Subtracted from pixels in [0, 1], one a colour.
        std: Divides the rest.

    Raises:
        ConfigError: A value can not be used.
    """

    size: int | None = None
    crop: int | None = None
    resample: str = "bicubic"
    mean: Sequence[float] = CLIP_MEAN
    std: Sequence[float] = CLIP_STD

    def __post_init__(self) -> None:
        """Check the values."""
        filters = [one.name.lower() for one in Image.Resampling]
        if self.resample not in filters:
            raise ConfigError(f"preprocessing.resample: expected one of {', '.join(filters)}, got {self.resample!r}")
        if self.size is not None and self.crop is not None and not 1 <= self.crop <= self.size:
            raise ConfigError(
                f"preprocessing: expected 1 <= crop <= size, got crop={self.crop}, size={self.size}; "
                "resize the shorter side to at least the crop"
            )
        if len(self.mean) != 3 or len(self.std) != 3:
            raise ConfigError(
                f"preprocessing: expected three numbers each in mean and std, got {list(self.mean)}, {list(self.std)}"
            )
        for name in ("mean", "std"):  # a config's list can not be hashed
            object.__setattr__(self, name, tuple(float(value) for value in getattr(self, name)))

    def for_side(self, side: int) -> Preprocessing:
        """The same rules with what is left open filled in by an encoder's input side in pixels."""
        return replace(self, size=self.size or side, crop=self.crop or side)

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size -> ``(B, 3, crop, crop)`` float32; ``size`` and ``crop`` are set."""
        squares = np.stack([np.asarray(self._square(image), dtype=np.float32) for image in images])  # (B, P, P, 3)
        pixels = torch.from_numpy(squares).permute(0, 3, 1, 2) / 255.0
        mean, std = (torch.tensor(tuple(values)).view(3, 1, 1) for values in (self.mean, self.std))
        return ((pixels - mean) / std).contiguous()

    def describe(self) -> dict[str, object]:
        """The rules as plain values."""
        return {
            "size": {"shortest_edge": self.size},
            "crop_size": {"height": self.crop, "width": self.crop},
            "resample": self.resample,
            "mean": list(self.mean),
            "std": list(self.std),
            "class": "mgie_lit.metrics.preprocessing.Preprocessing",
        }

    def _square(self, image: Image.Image) -> Image.Image:
        assert self.size is not None
        assert self.crop is not None
        width, height = image.size
        short = min(width, height)
        size = (int(self.size * width / short), int(self.size * height / short))  # the shorter becomes `size`
        resized = image if image.size == size else image.resize(size, Image.Resampling[self.resample.upper()])
        left, top = (round((side - self.crop) / 2) for side in size)
        return resized.crop((left, top, left + self.crop, top + self.crop))
