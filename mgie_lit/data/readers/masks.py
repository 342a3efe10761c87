"""Masks as images and as COCO run lengths; 255 = the edit may change the pixel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mgie_lit.data.image_files import open_image
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from pathlib import Path

_WHITE = 128  # gray values from here on are inside
_COUNT_BITS, _COUNT_OFFSET = 5, 48  # of a compressed count: bits a letter, and the letter of zero


def open_mask(path: Path, size: tuple[int, int]) -> Image.Image:
    """A mask from an image file.

    Args:
        path: A picture in which the edited region is transparent (as MagicBrush marks it) or, where nothing can be
            transparent, white on black.
        size: Width and height of the source in pixels.

    Returns:
        Mode L with 0 and 255, at ``size``.

    Raises:
        DataError: The file is missing or can not be decoded.
    """
    rgb = open_image(path)  # finds what is wrong with a file, with the right message
    with Image.open(path) as image:
        image.load()
        return mask_of(image, rgb).resize(size, Image.Resampling.NEAREST)


def mask_of(image: Image.Image, rgb: Image.Image) -> Image.Image:
    """The mask that a decoded picture shows: its transparent part or, where it has no alpha, its white part.

    Args:
        image: As decoded.
        rgb: The same as RGB.

    Returns:
        Mode L with 0 and 255.
    """
    if "A" in image.getbands() or "transparency" in image.info:
        inside = np.asarray(image.convert("RGBA").getchannel("A")) < _WHITE
    else:
        inside = np.asarray(rgb.convert("L")) >= _WHITE
    return Image.fromarray(np.where(inside, 255, 0).astype(np.uint8))


def decode_run_lengths(mask: Any, where: str) -> np.ndarray:  # noqa: ANN401 - any JSON value
    """A mask of COCO's: ``{"size": [height, width], "counts": text or list}``, runs of 0 and 1 down the columns.

    Args:
        mask: As in the annotation.
        where: For messages.

    Returns:
        ``(height, width)`` bool.

    Raises:
        DataError: The runs do not fill the size.
    """
    size, counts = (mask.get("size"), mask.get("counts")) if isinstance(mask, dict) else (None, None)
    if not isinstance(size, list) or len(size) != 2 or not isinstance(counts, str | list):
        raise DataError(f"{where}: expected a mask with `size` and `counts`, got {str(mask)[:80]}; download it again")
    runs = _counts(counts) if isinstance(counts, str) else counts
    height, width = size
    if sum(runs) != height * width or min(runs, default=0) < 0:
        raise DataError(
            f"{where}: expected runs over {height} x {width} = {height * width} pixels, got {sum(runs)}; "
            "the mask is damaged: download it again"
        )
    values = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return values.reshape(width, height).T


def encode_run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """The inverse of :func:`decode_run_lengths`, with compressed counts.

    Args:
        mask: ``(height, width)`` bool.

    Returns:
        ``{"size": [height, width], "counts": text}``.
    """
    values = np.asarray(mask, bool).T.ravel()
    edges = np.flatnonzero(np.diff(values)) + 1
    runs = np.diff([0, *edges, values.size]).tolist()
    if values.size and values[0]:
        runs.insert(0, 0)
    return {"size": list(mask.shape), "counts": "".join(map(_letters, _differences(runs)))}


def _counts(text: str) -> list[int]:
    """Compressed counts: groups of five bits, low ones first; from the fourth on differences to the last but one."""
    counts: list[int] = []
    value = shift = 0
    for letter in text:
        bits = ord(letter) - _COUNT_OFFSET
        value |= (bits & 0x1F) << shift
        shift += _COUNT_BITS
        if bits & 0x20:
            continue  # the number goes on in the next letter
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value = shift = 0
    return counts


def _differences(runs: list[int]) -> list[int]:
    return [run - (runs[index - 2] if index > 2 else 0) for index, run in enumerate(runs)]


def _letters(value: int) -> str:
    text = ""
    while True:
        bits, value = value & 0x1F, value >> _COUNT_BITS
        is_last = value == (-1 if bits & 0x10 else 0)
        text += chr(bits + (0 if is_last else 0x20) + _COUNT_OFFSET)
        if is_last:
            return text
