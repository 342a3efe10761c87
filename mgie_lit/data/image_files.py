"""Image files of any kind to 8-bit RGB; the only place that opens images on disk."""

from __future__ import annotations

import stat
import warnings
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from mgie_lit.errors import DataError
from mgie_lit.functional.pictures import DECODE_ERRORS, LAST_UPRIGHT, orientation, to_rgb, upright

MAX_PIXELS = 150_000_000  # larger images would take over 600 MB of memory while they are decoded


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
    except DECODE_ERRORS as error:
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
                is_upright = image.format == "TIFF" or orientation(image) <= LAST_UPRIGHT
                return image.size if is_upright else (image.height, image.width)
    except (*DECODE_ERRORS, Image.DecompressionBombError, MemoryError):
        return None


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
