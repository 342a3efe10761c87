"""Image files as small data URIs, and maps of the difference of two."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

from PIL import Image, ImageChops

if TYPE_CHECKING:
    from pathlib import Path

MAX_SIDE = 224  # pixels of an image on the page
JPEG_QUALITY = 85
FULL_SCALE = 0.25  # difference that is drawn white, of a range of 1; the mean over colours


def open_or_none(path: Path | None) -> Image.Image | None:
    """The image as RGB; None where there is none, or it can not be read."""
    if path is None:
        return None
    try:
        with Image.open(path) as opened:
            return opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None


def data_uri(path: Path, *, max_side: int = MAX_SIDE) -> str | None:
    """An image file as a ``data:`` URI of a JPEG no larger than ``max_side`` pixels; None where it can not be read."""
    return encode_or_none(open_or_none(path), max_side)


def encode(image: Image.Image, max_side: int) -> str:
    """An image as a ``data:`` URI of a JPEG; larger ones are made to fit ``max_side`` pixels."""
    small = image.copy()
    small.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def encode_or_none(image: Image.Image | None, max_side: int) -> str | None:
    """As :func:`encode`; None where there is no image."""
    return None if image is None else encode(image, max_side)


def difference_map(edited: Image.Image, target: Image.Image) -> Image.Image:
    """How far each pixel is from the target: black = equal, white = :data:`FULL_SCALE` of the range or more.

    Args:
        edited: RGB; resized to the target's size where it differs.
        target: RGB.

    Returns:
        A grey image of the target's size, the mean absolute difference over the colours.
    """
    same_size = edited if edited.size == target.size else edited.resize(target.size, Image.Resampling.BICUBIC)
    third = (1 / 3, 1 / 3, 1 / 3, 0)  # of red, green and blue
    mean = ImageChops.difference(same_size, target).convert("L", third)
    return mean.point([min(255, round(value / FULL_SCALE)) for value in range(256)])
