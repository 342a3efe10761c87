"""Writing files so that nothing is half-written and nothing is overwritten."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def publish_new(path: Path, write: Callable[[Path], None]) -> None:
    """Write a new file: it appears under its name complete or not at all, and replaces nothing.

    Args:
        path: The file to make; its folder is made where it is missing.
        write: Writes the content to the path it is given, a temporary name with the same suffix.

    Raises:
        FileExistsError: ``path`` is there already, also when another process made it in the meantime.
    """
    if os.path.lexists(path):
        raise FileExistsError(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o666 & ~_umask())  # mkstemp makes files that only their owner can read
        _link_or_rename(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def publish_text(path: Path, text: str) -> None:
    """Write ``text`` as a new UTF-8 file; see `publish_new`."""

    def write(temporary: Path) -> None:
        temporary.write_text(text, encoding="utf-8")

    publish_new(path, write)


def _link_or_rename(temporary: Path, path: Path) -> None:
    try:
        os.link(temporary, path)  # fails where `path` exists, unlike a rename
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        temporary.rename(path)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
