"""Pictures for synthetic data sets: smooth, small, and each different, so that a mix-up shows."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image, ImageDraw, ImageOps

if TYPE_CHECKING:
    from pathlib import Path

SIDE = 24  # pixels
EDITS = ("make it a negative", "mirror the picture", "turn it upside down", "make it black and white")
RESULTS = (
    "The colors of the picture are all turned into their opposites.",
    "The picture is mirrored from left to right.",
    "Everything in the picture stands on its head.",
    "The picture has no colors left, only shades of gray.",
)


def source_picture(number: int, size: tuple[int, int] = (SIDE, SIDE)) -> Image.Image:
    """A disc on a sloping ground.

    Args:
        number: Gives colours and place; numbers below 1000 look different.
        size: Width and height in pixels.

    Returns:
        An RGB picture, the same for the same arguments.
    """
    rng = np.random.default_rng(number)
    top, bottom, disc = rng.integers(0, 256, (3, 3))
    slope = np.linspace(0, 1, size[1])[:, None, None]
    ground = np.broadcast_to(top * (1 - slope) + bottom * slope, (size[1], size[0], 3))
    picture = Image.fromarray(ground.astype(np.uint8))
    ImageDraw.Draw(picture).ellipse(disc_box(number, size), fill=tuple(map(int, disc)))
    return picture


def disc_box(number: int, size: tuple[int, int]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of the disc in :func:`source_picture`."""
    radius = min(size) // 4
    left = (number * 5) % max(1, size[0] - 2 * radius)
    top = (number * 3) % max(1, size[1] - 2 * radius)
    return left, top, left + 2 * radius, top + 2 * radius


def edited_picture(picture: Image.Image, number: int) -> Image.Image:
    """The picture after ``EDITS[number % len(EDITS)]``."""
    edits = (ImageOps.invert, ImageOps.mirror, ImageOps.flip, lambda image: ImageOps.grayscale(image).convert("RGB"))
    return edits[number % len(edits)](picture)


def locally_edited(picture: Image.Image, number: int, mask: Image.Image) -> Image.Image:
    """The picture after :func:`local_words` where the mask (L, its size) is white; its other pixels stay."""
    return Image.composite(edited_picture(picture, _local(number)), picture, mask)


def local_words(number: int) -> str:
    """The instruction of :func:`locally_edited`; the number makes it unique."""
    return f"{EDITS[_local(number)]} where the disc is ({number})"


def disc_mask(number: int, size: tuple[int, int]) -> Image.Image:
    """The disc of :func:`source_picture` as a mask: L, 255 inside."""
    mask = Image.new("L", size, 0)
    ImageDraw.Draw(mask).ellipse(disc_box(number, size), fill=255)
    return mask


def words(number: int) -> str:
    """The instruction of :func:`edited_picture`; the number makes it unique."""
    return f"{EDITS[number % len(EDITS)]} ({number})"


def _local(number: int) -> int:
    """Negative and gray by turns: edits that show in any region, and that do not undo each other."""
    return 3 * (number % 2)


def save(picture: Image.Image, path: Path) -> None:
    """Write a picture in the format of its suffix; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path)


def encoded(picture: Image.Image, kind: str = "PNG") -> bytes:
    """A picture as the bytes of a file."""
    buffer = io.BytesIO()
    picture.save(buffer, format=kind)
    return buffer.getvalue()


def write_json(content: Any, path: Path) -> Path:  # noqa: ANN401 - any JSON value
    """Write JSON, bare ``NaN`` included; gives the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def image_column(pictures: list[Image.Image]) -> list[dict[str, Any]]:
    """Values of an image column as ``datasets`` stores them in parquet."""
    return [{"bytes": encoded(picture), "path": None} for picture in pictures]
