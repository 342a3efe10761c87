"""Pictures for the vision tower: what an image processor of transformers makes, to the last bit, in less time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from transformers.image_processing_backends import PilBackend
from transformers.image_transforms import get_resize_output_image_size

from mgie_lit.data.resampling import PILLOW, resize
from mgie_lit.functional.images import pil_to_levels

if TYPE_CHECKING:
    from torch import Tensor
    from transformers.image_processing_utils import BaseImageProcessor

_STEPS = (  # of a processor; one that has its own is asked itself
    *("__call__", "preprocess", "process_image", "convert_to_rgb", "resize", "center_crop", "rescale", "normalize"),
    *("pad", "_preprocess", "_preprocess_image_like_inputs", "_prepare_image_like_inputs", "_standardize_kwargs"),
)
_CHANNELS_FIRST = "channels_first"


class VisionPixels:
    """An image processor in two parts: 8-bit levels of each picture, and numbers of a batch of them.

    What a processor does after scaling and cutting depends on channel and level alone. So it is asked once, for all 256
    levels, and its answers are looked up. Processors with steps of their own, with padding or with other rules of sizes
    than the shorter side or height and width are asked for every picture.

    Args:
        processor: RGB images -> ``pixel_values``.
        resampler: One of ``mgie_lit.data.resampling.RESAMPLERS``.
    """

    def __init__(self, processor: BaseImageProcessor, resampler: str = PILLOW) -> None:
        self._processor: Any = processor
        self._resampler = resampler
        self._values = _values_of_levels(processor) if _is_plain(processor) else None  # (3, 256)

    def levels(self, image: Image.Image) -> Tensor:
        """One picture, scaled and cut.

        Args:
            image: Mode RGB.

        Returns:
            ``(3, P, P)`` uint8, or what the processor made where it was asked.
        """
        if self._values is None:
            made: Tensor = self._processor(image, return_tensors="pt")["pixel_values"][0]
            return made
        if self._processor.do_resize:
            kernel = Image.Resampling(self._processor.resample)
            image = resize(image, self._scaled_size(image), resampler=self._resampler, kernel=kernel)
        if self._processor.do_center_crop:
            image = _center_crop(image, self._processor.crop_size.width, self._processor.crop_size.height)
        return pil_to_levels(image)

    def finish(self, levels: Tensor) -> Tensor:
        """What the tower gets.

        Args:
            levels: ``(B, 3, P, P)``, some of :meth:`levels`.

        Returns:
            The same shape, normalised.
        """
        if self._values is None:
            return levels
        pixels = torch.empty(levels.shape, dtype=self._values.dtype)
        for mine, out in zip(levels.flatten(2), pixels.flatten(2), strict=True):  # (3, P * P): what a cache holds
            torch.gather(self._values, 1, mine.long(), out=out)
        return pixels

    def _scaled_size(self, image: Image.Image) -> tuple[int, int]:
        """Width and height in pixels, by the processor's own rule."""
        size = self._processor.size
        if not size.shortest_edge:
            return size.width, size.height
        shape = np.broadcast_to(np.uint8(0), (3, image.height, image.width))  # the rule looks at nothing else
        height, width = get_resize_output_image_size(
            shape, size.shortest_edge, default_to_square=False, input_data_format=_CHANNELS_FIRST
        )
        return width, height


def _is_plain(processor: Any) -> bool:  # noqa: ANN401
    """Whether all that a processor does is scale, cut, and map levels to numbers."""
    kind = type(processor)
    if not issubclass(kind, PilBackend) or any(getattr(kind, name) is not getattr(PilBackend, name) for name in _STEPS):
        return False
    size, crop = processor.size, processor.crop_size
    is_sized = not processor.do_resize or _given(size) in ({"shortest_edge"}, {"height", "width"})
    is_cut = not processor.do_center_crop or _given(crop) == {"height", "width"}
    return is_sized and is_cut and not processor.do_pad and processor.data_format in (None, _CHANNELS_FIRST)


def _given(size: Any) -> set[str]:  # noqa: ANN401 - SizeDict or None
    """Names of the sides that a size gives."""
    return {name for name, value in dict(size or {}).items() if value is not None}


def _values_of_levels(processor: Any) -> Tensor:  # noqa: ANN401
    """What becomes of the 256 levels of each channel, ``(3, 256)``."""
    ramp = Image.fromarray(np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (1, 1, 3)))  # 256 x 1 pixels
    made = processor(ramp, do_resize=False, do_center_crop=False, return_tensors="pt")["pixel_values"]  # (1, 3, 1, 256)
    values: Tensor = made[0, :, 0]
    return values.contiguous()


def _center_crop(image: Image.Image, width: int, height: int) -> Image.Image:
    """The middle of an image; what lies outside of it is black."""
    if image.size == (width, height):
        return image
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
