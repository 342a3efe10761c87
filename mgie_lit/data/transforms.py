"""Geometry of an edit pair: source, target and mask always move together."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from PIL import Image, ImageFilter, ImageOps

from mgie_lit.data.resampling import PILLOW, check_resampler, resize
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.types import EditExample


INTERMEDIATE_SIDE = 512  # pixels, ml-mgie


@dataclass(frozen=True, slots=True)
class PairTransform:
    """Scale the shorter side to ``resolution`` (bicubic) and cut a square; the draws come in as arguments.

    Args:
        resolution: Side of the result in pixels, at least 1.
        resampler: One of ``mgie_lit.data.resampling.RESAMPLERS``.
    """

    resolution: int
    resampler: str = field(default=PILLOW, repr=False)  # a fact of its own in a cache's recipe

    def __post_init__(self) -> None:
        """Check side and resampler.

        Raises:
            ConfigError: ``resolution`` is below 1, or there is no such resampler.
        """
        if self.resolution < 1:
            raise ConfigError(f"resolution: expected at least 1 pixel, got {self.resolution}; give a positive integer")
        check_resampler(self.resampler)

    def __call__(
        self, example: EditExample, *, offset: tuple[float, float] = (0.5, 0.5), flip: bool = False
    ) -> EditExample:
        """The example with all its images cut alike; a square of the right size comes back untouched.

        A target or mask of another size than the source is laid over the source first.

        Args:
            example: Images of any size.
            offset: Place of the square along width and height, each in [0, 1]; 0.5 is the centre. Draw both uniformly
                for a random crop.
            flip: Mirror left and right.

        Returns:
            A new example whose images are ``(resolution, resolution)``; a mask holds only 0 and 255.

        Raises:
            ValueError: ``offset`` lies outside [0, 1].
        """
        size = (self.resolution, self.resolution)
        return cut_pair(example, size, offset=offset, flip=flip, resampler=self.resampler)

    def views(self, example: EditExample) -> tuple[EditExample, Image.Image]:
        """The example cut in its middle, and what the MLLM sees of the source: the same square."""
        cut = self(example)
        return cut, cut.source


@dataclass(frozen=True, slots=True)
class TwoStepTransform:
    """The geometry of ml-mgie: the middle square, scaled to ``INTERMEDIATE_SIDE`` and from there to ``resolution``.

    The MLLM sees the larger of the two squares.

    Args:
        resolution: Side of the result in pixels, at least 1.
        resampler: One of ``mgie_lit.data.resampling.RESAMPLERS``.
    """

    resolution: int
    resampler: str = field(default=PILLOW, repr=False)  # a fact of its own in a cache's recipe

    def __post_init__(self) -> None:
        """Check the resampler; raises ``ConfigError``."""
        check_resampler(self.resampler)

    def __call__(self, example: EditExample) -> EditExample:
        """The example with all its images cut alike, each in its own middle."""
        return self.views(example)[0]

    def views(self, example: EditExample) -> tuple[EditExample, Image.Image]:
        """The cut example, and what the MLLM sees of the source."""
        squares = replace(
            example,
            source=_middle_square(example.source, self.resampler),
            target=None if example.target is None else _middle_square(example.target, self.resampler),
            mask=None if example.mask is None else _middle_square(example.mask, PILLOW),
        )
        return PairTransform(self.resolution, self.resampler)(squares), squares.source


def cut_pair(
    example: EditExample,
    size: tuple[int, int],
    *,
    offset: tuple[float, float] = (0.5, 0.5),
    flip: bool = False,
    resampler: str = PILLOW,
) -> EditExample:
    """The example with all its images scaled until they cover ``size`` (bicubic), and cut alike.

    Args:
        example: Images of any size; a target or mask of another size than the source is laid over the source first.
        size: Width and height in pixels.
        offset: Place of the cut along width and height, each in [0, 1].
        flip: Mirror left and right.
        resampler: One of ``mgie_lit.data.resampling.RESAMPLERS``.

    Returns:
        A new example; images that have the size already come back untouched.

    Raises:
        ValueError: ``offset`` lies outside [0, 1].
    """
    if not all(0.0 <= part <= 1.0 for part in offset):
        raise ValueError(f"offset: expected two numbers in [0, 1], got {offset}; 0.5 is the centre")
    scaled = _covering_size(example.source.size, size)

    def cut(image: Image.Image) -> Image.Image:
        return _cut(resize(image, scaled, resampler=resampler), size, offset, flip)

    return replace(
        example,
        source=cut(example.source),
        target=None if example.target is None else cut(example.target),
        mask=None if example.mask is None else _cut(_resize_mask(example.mask, scaled), size, offset, flip),
    )


def _covering_size(size: tuple[int, int], least: tuple[int, int]) -> tuple[int, int]:
    """The smallest size of the same shape that is at least ``least``, in whole pixels."""
    scale = max(least[0] / size[0], least[1] / size[1])
    return max(least[0], round(size[0] * scale)), max(least[1], round(size[1] * scale))


def _cut(image: Image.Image, size: tuple[int, int], offset: tuple[float, float], flip: bool) -> Image.Image:
    left = round((image.width - size[0]) * offset[0])
    top = round((image.height - size[1]) * offset[1])
    if image.size != size:
        image = image.crop((left, top, left + size[0], top + size[1]))
    return ImageOps.mirror(image) if flip else image


def _middle_square(image: Image.Image, resampler: str) -> Image.Image:
    edge = min(image.size)
    if image.size != (edge, edge):
        left, top = (image.width - edge) // 2, (image.height - edge) // 2
        image = image.crop((left, top, left + edge, top + edge))
    return resize(image, (INTERMEDIATE_SIDE, INTERMEDIATE_SIDE), resampler=resampler)


def _resize_mask(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The mask at ``size``; a pixel stays masked if the bicubic kernel of the images mixes any masked pixel into it.

    Bilinear reaches half as far as bicubic; the missing half is added on the coarser of the two grids.
    """
    if mask.size == size:
        return mask
    mask = mask.convert("L")
    grow = ImageFilter.MaxFilter(3)
    if size[0] >= mask.width:
        reached = mask.filter(grow).resize(size, Image.Resampling.BILINEAR)
    else:
        reached = mask.resize(size, Image.Resampling.BILINEAR).filter(grow)
    return reached.point(lambda value: 255 if value > 0 else 0)
