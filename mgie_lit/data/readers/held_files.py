"""Large files that are read at known places, kept open in between."""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from pathlib import Path

HELD = 32  # files of one process at most
_LINE_BLOCK = 2**18  # bytes; two pictures of 512 px in base64 are about as long


class HeldFiles:
    """Opening a file for every picture costs more than reading it, above all on a network drive.

    Every read names its place, so processes that were forked from each other can share what was open before. Pickled
    as nothing: another process opens the files for itself.

    Args:
        limit: Open files at most; the one that was not used for longest is closed.
    """

    def __init__(self, limit: int = HELD) -> None:
        self._limit = limit
        self._files: OrderedDict[Path, BinaryIO] = OrderedDict()

    def read(self, path: Path, offset: int, size: int) -> bytes:
        """Bytes of a file, fewer at its end.

        Args:
            path: Of the file.
            offset: Of the first byte.
            size: Number of bytes.

        Returns:
            The bytes.

        Raises:
            OSError: It can not be opened or read.
        """
        return os.pread(self._open(path).fileno(), size, offset)

    def read_line(self, path: Path, offset: int) -> bytes:
        """Bytes of a file up to the end of the line, without it; raises as :meth:`read` does."""
        parts: list[bytes] = []
        while block := self.read(path, offset, _LINE_BLOCK):
            line, end, _ = block.partition(b"\n")
            parts.append(line)
            if end:
                break
            offset += len(block)
        return b"".join(parts)

    def __len__(self) -> int:
        """Number of files that are open."""
        return len(self._files)

    def _open(self, path: Path) -> BinaryIO:
        if path not in self._files:
            self._files[path] = path.open("rb", buffering=0)
            if len(self._files) > self._limit:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        return self._files[path]

    def close(self) -> None:
        """Close all of them; they are opened again when they are read."""
        while self._files:
            self._files.popitem()[1].close()

    def __del__(self) -> None:
        self.close()

    def __reduce__(self) -> tuple[type[HeldFiles], tuple[int]]:
        return HeldFiles, (self._limit,)
