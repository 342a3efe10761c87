"""Pictures of any mode and orientation, as Pillow opens them, to upright 8-bit RGB."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from PIL import ExifTags, Image, ImageOps

# What Pillow raises over damaged bytes.
DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)
LAST_UPRIGHT = 4  # of EXIF's orientations: from 5 on width and height are exchanged
_UPRIGHT, _LAST_ORIENTATION = 1, 8


def to_rgb(image: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: alpha on white, 16 and 32 bits scaled to 8, never clipped.

    >>> to_rgb(Image.new("LA", (1, 1), (0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if image.mode.startswith("I") or image.mode == "F":
        return Image.fromarray(_to_eight_bits(np.asarray(image))).convert("RGB")
    if image.mode in {"RGBA", "LA", "PA", "RGBa", "La"} or "transparency" in image.info:
        # Pillow converts premultiplied gray only by way of LA.
        layer = (image.convert("LA") if image.mode == "La" else image).convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def upright(image: Image.Image) -> Image.Image:
    """The image turned by its EXIF orientation, itself if it stands upright; unreadable EXIF counts as none."""
    try:
        is_turned = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT) != _UPRIGHT
        return ImageOps.exif_transpose(image) if is_turned else image
    except DECODE_ERRORS:
        return image


def orientation(image: Image.Image) -> int:
    """EXIF's number; those that :func:`upright` would not follow count as none."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, _UPRIGHT)
    except DECODE_ERRORS:
        return _UPRIGHT
    return value if value in range(1, _LAST_ORIENTATION + 1) else _UPRIGHT


def _to_eight_bits(values: np.ndarray) -> np.ndarray:
    """Gray values of a 16-bit, 32-bit or float image as uint8; the full scale is read from type and largest value."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0)
        scales: tuple[float, ...] = (1.0, 255.0, 65535.0)
    else:
        scales = (65535.0, float(2**31 - 1))
    largest = float(values.max(initial=0))
    full_scale = next((scale for scale in scales if largest <= scale), max(largest, 1.0))
    return np.rint(np.clip(values / full_scale, 0.0, 1.0) * 255.0).astype(np.uint8)
