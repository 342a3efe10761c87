"""What a user is told when a disk is full."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor

from mgie_lit.errors import TrainingError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}  # full, the user's share is, larger than a file may be


@contextmanager
def full_disk_named(path: Path, *, needed: int | None = None, kept: str = "") -> Iterator[None]:
    """Turn the error of a full disk into a message; other errors pass.

    Args:
        path: The file that is written inside.
        needed: Its bytes, where they are known.
        kept: What is whole nevertheless, a sentence for the message.

    Yields:
        Nothing.

    Raises:
        TrainingError: There was no room; the message gives path, needed and free bytes.
    """
    try:
        yield
    except Exception as error:
        cause = _disk_error(error)
        if cause is None:
            raise
        wanted = "room" if needed is None else f"room for {needed:,} bytes"
        raise TrainingError(
            f"{path}: expected {wanted}, got: {cause.strerror} (its disk has {_free(path):,} bytes free; quotas and "
            f"limits of the shell count, too); nothing of it was left. {kept}Make room, then go on with "
            "resume=<run dir>"
        ) from error


def content_bytes(content: object) -> int:
    """Bytes of all tensors in a nest of containers; about the size of its file."""
    if isinstance(content, Tensor):
        return content.numel() * content.element_size()
    if isinstance(content, Mapping):
        return sum(content_bytes(value) for value in content.values())
    if isinstance(content, Sequence) and not isinstance(content, str | bytes):
        return sum(content_bytes(value) for value in content)
    return 0


def _disk_error(error: BaseException | None) -> OSError | None:
    """The first such error of a chain: torch's writer raises another one while it handles it."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return error
        error = error.__cause__ or error.__context__
    return None


def _free(path: Path) -> int:
    folder: Any = next((parent for parent in path.absolute().parents if parent.exists()), Path("/"))
    return shutil.disk_usage(folder).free
