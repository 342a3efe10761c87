"""Sizes of pictures: measured once, piece by piece, and kept beside the index."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import numpy as np
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from mgie_lit.data.readers.index import DRAFT, make_folder
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pyarrow as pa

PIECE = 1000  # rows measured and stored together


def sizes_folder(parent: Path, name: str, table: pa.Table) -> Path:
    """Where the sizes of a table's pictures are kept; another one for other rows.

    Args:
        parent: Folder of the indexes.
        name: Of the reader and its split.
        table: Of all rows of the split.

    Returns:
        A path.
    """
    digest = hashlib.sha256()
    for column in ("sample_id", "source"):
        digest.update("\n".join(table[column].to_pylist()).encode())
    return parent / f"{name}-sizes-{digest.hexdigest()[:16]}"


def stored_sizes(
    folder: Path,
    positions: Sequence[int] | np.ndarray,
    count: int,
    measure: Callable[[int], tuple[int, int]],
    what: str,
) -> np.ndarray:
    """Sizes at some positions of a table. Those that nobody has measured yet are measured, whole pieces at a time.

    What an interrupted process has measured is used by the next one; processes that start together measure once.

    Args:
        folder: Is made where it is missing.
        positions: Of the rows in question.
        count: Of all rows.
        measure: Position -> width and height in pixels.
        what: Name of the data set, for the progress bar.

    Returns:
        ``(len(positions), 2)`` int32, widths and heights.

    Raises:
        DataError: A picture in question can not be opened.
    """
    positions = np.asarray(positions, np.int64)
    numbers = np.unique(positions // PIECE).tolist()
    make_folder(folder)
    with FileLock(folder / "measuring.lock"):
        new = [number for number in numbers if not _file(folder, number).is_file()]
        rows = [(number, row) for number in new for row in range(number * PIECE, min((number + 1) * PIECE, count))]
        found: list[tuple[int, int]] = []
        bar = track(
            rows, f"measuring pictures of {what}", console=Console(stderr=True), transient=True, disable=not rows
        )
        for number, row in bar:
            found.append(_size_or_none(measure, row))
            if row + 1 in {(number + 1) * PIECE, count}:
                _save(_file(folder, number), np.array(found, np.int32))
                found = []
    sizes = np.zeros((len(positions), 2), np.int32)
    for number in numbers:
        here = positions // PIECE == number
        sizes[here] = np.load(_file(folder, number))[positions[here] % PIECE]
    for place in np.flatnonzero(sizes[:, 0] == 0).tolist():
        sizes[place] = measure(int(positions[place]))  # says what is wrong, unless it has been repaired
    return sizes


def _size_or_none(measure: Callable[[int], tuple[int, int]], row: int) -> tuple[int, int]:
    try:
        return measure(row)
    except DataError:  # it may be one that is left out
        return (0, 0)


def _file(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.npy"


def _save(path: Path, sizes: np.ndarray) -> None:
    draft = path.with_name(f"{DRAFT}{os.getpid()}-{path.name}")
    np.save(draft, sizes)
    draft.replace(path)
