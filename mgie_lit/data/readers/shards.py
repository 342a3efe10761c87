"""Tar shards made by ``mgie prepare shards``: any data set in a few large files, read at known places."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from mgie_lit.data.readers.annotations import no_layout, read_json
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.encoded_images import decode_image, decode_mask, encoded_size
from mgie_lit.data.readers.held_files import HeldFiles
from mgie_lit.data.readers.index import MappedTable
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from mgie_lit.data.readers.rows import Row

INDEX, MANIFEST = "index.arrow", "shards.json"
BLOCKS, SHUFFLED = "blocks", "shuffled"
_AGAIN = "run `mgie prepare shards` again into an empty folder, or copy the file again"


class Shards(FileReader):
    """Examples in tar files of WebDataset's layout, each member read at the place that the index tells.

    Nothing is scanned, and any example can be had at any time, so order and resuming are as exact as with single files.

    Args:
        split: ``train``, ``val`` or ``test``.
        num_examples: As in :class:`FileReader`.
        root: The folder that was made.
        order: Of training: ``blocks`` reads whole stretches of the files one after the other, ``shuffled`` anywhere.
        block_size: Examples of a stretch.
        window: Stretches whose examples are mixed with each other.
        expressive: As in :class:`FileReader`.
        on_error: As in :class:`FileReader`.
        exclude: As in :class:`FileReader`.
        index_dir: As in :class:`FileReader`.
        option: As in :class:`FileReader`.

    Raises:
        ConfigError: A value can not be used.
        DataError: The folder is not complete, or a shard is missing or has another size.
    """

    name = "shards"

    def __init__(
        self,
        split: str,
        num_examples: int | None = None,
        *,
        root: str | Path | None = None,
        order: str = BLOCKS,
        block_size: int = 256,
        window: int = 16,
        expressive: str | Sequence[str] | None = None,
        on_error: str = "error",
        exclude: str | Path | None = None,
        index_dir: str | Path | None = None,
        option: str = "data",
    ) -> None:
        if order not in (BLOCKS, SHUFFLED):
            raise ConfigError(f"{option}.order: expected {BLOCKS} or {SHUFFLED}, got {order!r}; use one of these")
        for key, value in (("block_size", block_size), ("window", window)):
            if value < 1:
                raise ConfigError(f"{option}.{key}: expected at least 1, got {value}; raise it")
        self.order = order
        self.block_size = block_size
        self.window = window
        super().__init__(
            split,
            num_examples,
            root=root,
            expressive=expressive,
            on_error=on_error,
            exclude=exclude,
            index_dir=index_dir,
            option=option,
        )

    @property
    def blocks(self) -> tuple[np.ndarray, int] | None:
        """What :func:`mgie_lit.data.order.order_of` asks for."""
        return (np.arange(0, len(self), self.block_size), self.window) if self.order == BLOCKS else None

    def load(self) -> MappedTable:
        """Map the index, after a look at the sizes of the shards."""
        self.image_dir = self.root
        self._held = HeldFiles()
        index, manifest = self.root / INDEX, self.root / MANIFEST
        if not index.is_file() or not manifest.is_file():
            raise no_layout(self.folder, self.root, INDEX, self.name, [INDEX])
        for name, shard in _entries(manifest).items():
            path = self.root / name
            size = path.stat().st_size if path.is_file() else None
            if size != shard["bytes"]:
                got = "nothing" if size is None else f"{size} bytes"
                raise DataError(f"{path}: expected {shard['bytes']} bytes, got {got}; {_AGAIN}")
        return MappedTable.open(index)

    def open_images(self, row: Row) -> tuple[Image.Image, Image.Image | None, Image.Image | None]:
        """Source, target and mask of a row, whose entries are places in shards.

        Args:
            row: Of this data set.

        Returns:
            RGB, RGB and L (source's size, 255 = the edit may change it); None for what there is not.

        Raises:
            DataError: A shard is missing or damaged.
        """
        source = decode_image(*self._read(row.source))
        target = None if row.target is None else decode_image(*self._read(row.target))
        if row.mask is None:
            return source, target, None
        data, where = self._read(row.mask)
        return source, target, decode_mask(data, source.size, where)

    def source_size(self, row: Row) -> tuple[int, int]:
        """Width and height in pixels of a row's source, from its header."""
        return encoded_size(*self._read(row.source))

    def _read(self, place: str) -> tuple[bytes, str]:
        """Bytes of a member, and where they are, for messages."""
        name, offset, size = parse_place(place)
        where = f"{self.root / name}, byte {offset}"
        try:
            data = self._held.read(self.root / name, offset, size)
        except OSError as error:
            raise DataError(f"{where}: expected an image, can not read it ({error.strerror}); {_AGAIN}") from error
        if len(data) != size:
            raise DataError(f"{where}: expected {size} bytes, got {len(data)}; {_AGAIN}")
        return data, where


def place_of(name: str, offset: int, size: int) -> str:
    """A stretch of a file as text.

    >>> parse_place(place_of("train-000000.tar", 512, 10))
    ('train-000000.tar', 512, 10)
    """
    return f"{name}:{offset}:{size}"


def parse_place(place: str) -> tuple[str, int, int]:
    """The inverse of :func:`place_of`."""
    name, offset, size = place.rsplit(":", 2)
    return name, int(offset), int(size)


def _entries(manifest: Path) -> dict[str, dict[str, Any]]:
    content = read_json(manifest)
    shards = content.get("shards") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(isinstance(s, dict) and "bytes" in s for s in shards.values()):
        raise DataError(f"{manifest}: expected an object with `shards`, got {str(content)[:80]}; {_AGAIN}")
    return shards
