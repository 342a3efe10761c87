"""Aspect buckets: pictures keep about their own shape, and batches are of one shape."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from mgie_lit.data.resampling import PILLOW, check_resampler
from mgie_lit.data.transforms import cut_pair
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from PIL import Image

    from mgie_lit.types import EditExample


def bucket_sizes(resolution: int, max_aspect: float, multiple: int) -> tuple[tuple[int, int], ...]:
    """Widths and heights with about as many pixels as the square of ``resolution``, from tall to wide.

    For each width the height is the multiple nearest to ``resolution ** 2 / width``; with a size there is its
    transpose.

    Args:
        resolution: Side of the square in pixels, which is always among them.
        max_aspect: Longer side by shorter side, at least 1.
        multiple: Of the sides, in pixels: what the editor needs.

    Returns:
        At least two of them and the square.

    Raises:
        ConfigError: The square does not fit the multiple, or there is no other size.

    >>> bucket_sizes(256, 2.0, 64)
    ((192, 320), (256, 256), (320, 192))
    """
    if resolution % multiple:
        raise ConfigError(
            f"size.resolution: expected a multiple of {multiple} pixels with data.max_aspect, got {resolution}; "
            "change it, or use data.max_aspect=null"
        )
    narrow = range(multiple, resolution, multiple)
    tall = [(width, round(resolution**2 / width / multiple) * multiple) for width in narrow]
    found = [(width, height) for width, height in tall if height <= max_aspect * width]
    if not found:
        least = min((height / width for width, height in tall), default=float("inf"))
        raise ConfigError(
            f"data.max_aspect: expected at least {least:.3g} at {resolution} pixels with sides in multiples of "
            f"{multiple}, got {max_aspect:g}: there is no shape but the square; raise it, or use null"
        )
    return (*found, (resolution, resolution), *((height, width) for width, height in reversed(found)))


@dataclass(frozen=True, slots=True)
class BucketTransform:
    """Scale a picture until it covers the bucket that needs the least cut from it (bicubic), and cut the middle.

    Args:
        buckets: Widths and heights in pixels.
        resampler: One of ``mgie_lit.data.resampling.RESAMPLERS``.
    """

    buckets: tuple[tuple[int, int], ...]
    resampler: str = field(default=PILLOW, repr=False)  # a fact of its own in a cache's recipe

    def __post_init__(self) -> None:
        """Check the resampler; raises ``ConfigError``."""
        check_resampler(self.resampler)

    def choose(self, sizes: np.ndarray) -> np.ndarray:
        """The bucket of each size; of two that cut equally the first.

        Args:
            sizes: ``(N, 2)``, widths and heights in pixels, above 0.

        Returns:
            ``(N,)`` int64, places in ``buckets``.
        """
        aspects, offered = (np.log(pairs[:, 0] / pairs[:, 1]) for pairs in (sizes, np.array(self.buckets)))
        # A bucket keeps exp(-distance) of the pixels.
        chosen: np.ndarray = np.abs(aspects[:, None] - offered[None]).argmin(1)
        return chosen

    def __call__(self, example: EditExample) -> EditExample:
        """The example with all its images cut alike; a target or mask of another size is laid over the source."""
        size = self.buckets[int(self.choose(np.array([example.source.size]))[0])]
        return cut_pair(example, size, resampler=self.resampler)

    def views(self, example: EditExample) -> tuple[EditExample, Image.Image]:
        """The cut example, and what the MLLM sees of the source: the same, which its processor makes a square of."""
        cut = self(example)
        return cut, cut.source
