"""Image files of any kind to 8-bit RGB; the only place that opens images on disk."""

from __future__ import annotations

import stat
import struct
import warnings
import zlib
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from mgie_lit.errors import DataError

MAX_PIXELS = 150_000_000  # larger images would take over 600 MB of memory while they are decoded
_UPRIGHT = 1  # EXIF's number
_LAST_UPRIGHT, _LAST_ORIENTATION = 4, 8  # from 5 on width and height are exchanged
_DECODE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, struct.error, zlib.error)


def open_image(path: str | Path, *, max_pixels: int = MAX_PIXELS, draft_size: int | None = None) -> Image.Image:
    """Decode an image file to upright RGB, whatever its format, mode and suffix.

    EXIF orientation is applied, transparency is laid on white, 16-bit values are scaled to 8 bit, CMYK and palettes are
    converted, and an animation gives its first frame.

    Args:
        path: The file; its suffix does not matter.
        max_pixels: Width times height above which the file is refused.
        draft_size: Pixels; where the format can (JPEG), decode at a reduced scale whose sides stay at least this long.

    Returns:
        An image of mode ``RGB`` with its own pixels (no open file behind it).

    Raises:
        DataError: The file is missing, a folder, empty, no image, damaged, or too large; the message says which and
            what to do.
    """
    path = Path(path)
    _check_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning; remarks on odd metadata
            with Image.open(path) as image:
                _check_size(path, image.size, max_pixels)
                if draft_size is not None:
                    image.draft(None, (draft_size, draft_size))
                image.load()
                return to_rgb(upright(image))
    except UnidentifiedImageError as error:
        raise DataError(
            f"{path}: expected an image, got a file in no format that Pillow knows; replace or remove it"
        ) from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: expected at most {max_pixels} pixels, got far more; make it smaller") from error
    except MemoryError as error:
        raise DataError(f"{path}: does not fit in memory when decoded; make it smaller") from error
    except _DECODE_ERRORS as error:
        raise DataError(
            f"{path}: expected a whole image, got one that can not be decoded ({error}); "
            "it is probably truncated or damaged: copy or download it again"
        ) from error


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height that :func:`open_image` would give, from the header alone where that is enough.

    Args:
        path: The file.

    Returns:
        Pixels.

    Raises:
        DataError: The file is no image.
    """
    return header_size(path) or open_image(path).size


def header_size(file: str | Path | IO[bytes]) -> tuple[int, int] | None:
    """Width and height of the upright image; None where opening it will tell what is wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file) as image:
                # Pillow turns TIFF files by itself, and says their size as it will be.
                is_upright = image.format == "TIFF" or _orientation(image) <= _LAST_UPRIGHT
                return image.size if is_upright else (image.height, image.width)
    except (*_DECODE_ERRORS, Image.DecompressionBombError, MemoryError):
        return None


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
    except _DECODE_ERRORS:
        return image


def _orientation(image: Image.Image) -> int:
    """EXIF's number; those that :func:`upright` would not follow count as none."""
    try:
        value = image.getexif().get(ExifTags.Base.Orientation, 1)
    except _DECODE_ERRORS:
        return 1
    return value if value in range(1, _LAST_ORIENTATION + 1) else 1


def _check_file(path: Path) -> None:
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(f"{path}: expected an image file, got nothing at this path; check its spelling") from None
    if stat.S_ISDIR(status.st_mode):
        raise DataError(f"{path}: expected an image file, got a folder; name a file inside it")
    if stat.S_ISREG(status.st_mode) and status.st_size == 0:
        raise DataError(f"{path}: expected an image file, got an empty one (0 bytes); copy or download it again")


def _check_size(path: Path, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise DataError(
            f"{path}: expected at most {max_pixels} pixels, got {width} x {height} = {width * height}; make it smaller"
        )


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
