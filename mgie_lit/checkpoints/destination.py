"""A folder that is there whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mgie_lit.errors import CheckpointError


def check_destination(folder: Path) -> None:
    """Whether a conversion may write to a folder.

    Args:
        folder: The user's destination.

    Raises:
        CheckpointError: There is something already.
    """
    if folder.is_dir():
        if any(folder.iterdir()):
            raise CheckpointError(f"{folder}: expected a new or empty folder, got one with files; name another")
    elif folder.exists() or folder.is_symlink():
        raise CheckpointError(f"{folder}: expected a new or empty folder, got a file; name another")


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """A folder beside ``folder`` to write into, which takes its place at the end; on failure nothing is left.

    Args:
        folder: The destination, new or empty.

    Yields:
        Where to write.

    Raises:
        CheckpointError: There is something already, or the disk does not take it.
    """
    check_destination(folder)
    folder = folder.absolute()
    made = next((parent for parent in reversed(folder.parents) if not parent.exists()), None)
    partial: Path | None = None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".partial", dir=folder.parent))
        partial.chmod(0o777 & ~_umask())  # mkdtemp's is for the owner alone
        yield partial
        if folder.is_dir():
            folder.rmdir()
        partial.replace(folder)
    except BaseException as error:
        for leftover in (partial, made):
            if leftover is not None:
                shutil.rmtree(leftover, ignore_errors=True)
        if isinstance(error, OSError):
            raise CheckpointError(f"{folder}: can not write the result ({error}); nothing was left there") from error
        raise


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
