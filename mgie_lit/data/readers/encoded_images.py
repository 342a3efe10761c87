"""Images that do not lie in files of their own: bytes out of a column or a line of base64."""

from __future__ import annotations

import base64
import binascii
import io
import warnings

from PIL import Image, UnidentifiedImageError

from mgie_lit.data.image_files import MAX_PIXELS, header_size
from mgie_lit.data.readers.masks import mask_of
from mgie_lit.errors import DataError
from mgie_lit.functional.pictures import DECODE_ERRORS, to_rgb, upright


def decode_image(data: bytes, where: str) -> Image.Image:
    """Decode an image to upright RGB, by the rules of :func:`mgie_lit.data.image_files.open_image`.

    Args:
        data: A whole image file.
        where: Where it comes from, for messages.

    Returns:
        An image of mode ``RGB``.

    Raises:
        DataError: It is empty, no image, damaged or too large.
    """
    return to_rgb(upright(_load(data, where)))


def encoded_size(data: bytes, where: str) -> tuple[int, int]:
    """Width and height that :func:`decode_image` would give, from the header alone where that is enough.

    Args:
        data: A whole image file.
        where: Where it comes from, for messages.

    Returns:
        Pixels.

    Raises:
        DataError: It is no image.
    """
    return header_size(io.BytesIO(data)) or decode_image(data, where).size


def decode_mask(data: bytes, size: tuple[int, int], where: str) -> Image.Image:
    """Decode a mask, by the rules of :func:`mgie_lit.data.readers.masks.open_mask`.

    Args:
        data: A whole image file.
        size: Width and height of the source in pixels.
        where: Where it comes from, for messages.

    Returns:
        Mode L with 0 and 255, at ``size``.

    Raises:
        DataError: It is empty, no image, damaged or too large.
    """
    image = _load(data, where)
    return mask_of(image, to_rgb(image)).resize(size, Image.Resampling.NEAREST)


def decode_base64(text: bytes, where: str) -> bytes:
    """Bytes behind a text in base64.

    Args:
        text: Letters of base64 only.
        where: Where it comes from, for messages.

    Returns:
        The bytes.

    Raises:
        DataError: It is something else.
    """
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise DataError(f"{where}: expected base64, got something else ({error}); the file is damaged") from error


def _load(data: bytes, where: str) -> Image.Image:
    if not data:
        raise DataError(f"{where}: expected an image, got nothing (0 bytes); make or download the data again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own size warning; remarks on odd metadata
            image = Image.open(io.BytesIO(data))
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    f"{where}: expected at most {MAX_PIXELS} pixels, got {image.width} x {image.height}; "
                    "make it smaller"
                )
            image.load()
            return image
    except UnidentifiedImageError as error:
        raise DataError(f"{where}: expected an image, got {len(data)} bytes in no format that Pillow knows") from error
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: expected at most {MAX_PIXELS} pixels, got far more; make it smaller") from error
    except DECODE_ERRORS as error:
        raise DataError(
            f"{where}: expected a whole image, got one that can not be decoded ({error}); it is damaged"
        ) from error
