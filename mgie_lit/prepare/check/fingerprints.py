"""Numbers that say whether images are equal, look alike or differ at all."""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image
from scipy.ndimage import maximum_filter

if TYPE_CHECKING:
    from collections.abc import Iterator

# 0 = there is none: an image that was not opened, or one too flat to be recognised
PRINT = np.dtype([(name, np.uint64) for name in ("source", "target", "words", "source_look", "target_look")])
GRID = 64  # cells a side in which two images are compared
NEAR_BITS = 2  # of 64; looks that differ in no more are taken for the same picture
AREAS = 4  # a side, each of 16 x 16 cells
# Compressing again, or with another program, errs elsewhere and by more: how often a picture's own error it may be. Of
# cells, the largest error of 5 x 5 around; of areas, the largest of all.
_CELL_FACTOR, _CELLS_AROUND, _AREA_FACTOR = 2.0, 5, 1.5
_ROUNDING = 1  # of 255: both means of a cell are whole numbers
_NO_COMPRESSION = 8  # of 255; areas that differ by more are an edit, whatever the quality
_FLAT = 8  # of 255; below this range a picture has no structure to recognise
_NEIGHBOURS = 8  # compared with each look in each sorted order
_ROTATIONS = (0, 16, 32, 48)  # bits


def pixel_hash(image: Image.Image) -> int:
    """64 bits of SHA-256 over mode, size and pixels; equal only for equal pictures."""
    digest = hashlib.sha256(f"{image.mode} {image.size}".encode())
    digest.update(image.tobytes())
    return int.from_bytes(digest.digest()[:8], "little")


def words_hash(text: str) -> int:
    """64 bits of SHA-256 over a text without case and blanks."""
    return int.from_bytes(hashlib.sha256("".join(text.lower().split()).encode()).digest()[:8], "little")


def cells(image: Image.Image) -> Image.Image:
    """The means over ``GRID`` x ``GRID`` cells, RGB; noise of compression averages out, a local edit does not."""
    return image.resize((GRID, GRID), Image.Resampling.BOX)


def look(grid: Image.Image) -> int:
    """64 bits that survive scaling and compression: whether brightness rises from cell to cell (difference hash).

    Args:
        grid: From :func:`cells`.

    Returns:
        The bits, or 0 for a picture that is too flat.
    """
    means = np.asarray(grid.convert("L").resize((9, 8), Image.Resampling.BOX), np.int16)
    if int(means.max()) - int(means.min()) < _FLAT:
        return 0
    return int.from_bytes(np.packbits(means[:, 1:] > means[:, :-1]).tobytes(), "little")


def largest_difference(first: Image.Image, second: Image.Image) -> int:
    """Largest difference of any cell and channel of two pictures from :func:`cells`, 0 to 255."""
    difference = np.asarray(first, np.int16) - np.asarray(second, np.int16)
    return int(np.abs(difference).max())


def is_compression(first: Image.Image, second: Image.Image, *, quality: int, least: float) -> bool:
    """Whether two pictures differ no more than one of them does from itself, saved as JPEG.

    Compression errs where there is structure, by more the smaller the picture, but hardly in the mean of a large area.
    So differences are held against the error that JPEG makes in the same place: in 64 x 64 cells, where a local edit
    shows, and in 4 x 4 areas, where a change of the whole picture does.

    Args:
        first: RGB.
        second: RGB.
        quality: Of JPEG; files of this quality and better are taken for the same picture.
        least: Of 255: cells may differ by this everywhere, areas by half of it.

    Returns:
        False where there is an edit.
    """
    one, other = _means(first), _means(second)
    in_cells, in_areas = np.abs(one - other), np.abs(_areas(one) - _areas(other))
    if in_areas.max() > _NO_COMPRESSION:
        return False
    again = [(means, _means(_as_jpeg(picture, quality))) for means, picture in ((one, first), (other, second))]
    cell_error = np.max([np.abs(means - saved) for means, saved in again], (0, -1))  # (GRID, GRID)
    area_error = max(np.abs(_areas(means) - _areas(saved)).max() for means, saved in again)
    allowed = _ROUNDING + np.maximum(least, _CELL_FACTOR * maximum_filter(cell_error, _CELLS_AROUND))
    return bool((in_cells.max(-1) <= allowed).all() and in_areas.max() <= max(least / 2, _AREA_FACTOR * area_error))


def _as_jpeg(image: Image.Image, quality: int) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=quality)
    return Image.open(file)


def _means(image: Image.Image) -> np.ndarray:
    """``(GRID, GRID, 3)`` float64, 0 to 255."""
    return np.asarray(cells(image), np.float64)


def _areas(means: np.ndarray) -> np.ndarray:
    side = GRID // AREAS
    mean: np.ndarray = means.reshape(AREAS, side, AREAS, side, 3).mean((1, 3))
    return mean


def mixed(*columns: np.ndarray) -> np.ndarray:
    """One 64-bit number for each row of several columns; equal rows give equal numbers."""
    total = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        total = total * np.uint64(0x9E3779B97F4A7C15) + column  # overflow wraps, as wanted
        total ^= total >> np.uint64(29)
    return total


def near_pairs(looks: np.ndarray) -> Iterator[tuple[int, int]]:
    """Positions of looks that are the same up to ``NEAR_BITS`` bits.

    Neighbours in four sorted orders are compared, not all pairs, so that a million pictures take seconds; a few pairs
    in large groups of look-alikes are not found.

    Args:
        looks: ``(N,)`` uint64 from :func:`look`; zeros match nothing.

    Yields:
        Each pair once, the smaller position first.
    """
    places = np.flatnonzero(looks)
    found: set[tuple[int, int]] = set()
    for rotation in _ROTATIONS:
        turned = looks[places]
        if rotation:
            turned = (turned << np.uint64(rotation)) | (turned >> np.uint64(64 - rotation))
        order = places[np.argsort(turned, kind="stable")]
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            close = _num_bits(looks[first] ^ looks[second]) <= NEAR_BITS
            found.update(
                (min(pair), max(pair)) for pair in zip(first[close].tolist(), second[close].tolist(), strict=True)
            )
    yield from sorted(found)


def _num_bits(values: np.ndarray) -> np.ndarray:
    counts: np.ndarray = np.unpackbits(values.view(np.uint8).reshape(-1, 8), axis=1).sum(axis=1)
    return counts
