"""Checkpoint files that are whole or not there: written beside their place, hashed, put in place at once."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from mgie_lit.checkpoints.weight_files import SUFFIXES

DIGEST_SUFFIX = ".sha256"  # beside the file; a line that `sha256sum --check` understands
TEMPORARY_SUFFIX = ".part"


def write_checked(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint so that a crash at any moment leaves the old files as they were, or the whole new one.

    Args:
        content: What ``torch.save`` takes.
        path: Of the checkpoint; its folder is made where it is missing.

    Raises:
        OSError: The disk is full or can not be written; nothing is left of the new file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + TEMPORARY_SUFFIX)
    try:
        with temporary.open("wb") as file:
            hashing = _HashingFile(file)
            torch.save(content, hashing)  # type: ignore[arg-type]
            file.flush()
            os.fsync(file.fileno())
        _put(temporary, path, hashing.digest.hexdigest())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def is_whole(path: Path) -> bool:
    """Whether a checkpoint is as it was written, by its recorded hash or else by the check sums inside.

    Args:
        path: Of the checkpoint.

    Returns:
        False where the file is damaged, cut off or gone.
    """
    if not path.is_file():
        return False
    recorded = digest_path(path)
    if not recorded.is_file():
        return _has_its_check_sums(path)
    return recorded.read_text(encoding="utf-8").split()[:1] == [_digest_of(path)]


def add_digest(path: Path) -> None:
    """Record the hash of a checkpoint whose writer was killed before it did.

    Args:
        path: Of a checkpoint that is whole.
    """
    if not digest_path(path).is_file():
        _write_digest(path, _digest_of(path))


def digest_path(path: Path) -> Path:
    """Where the hash of a checkpoint is kept."""
    return path.with_name(path.name + DIGEST_SUFFIX)


def folder_digest(folder: Path) -> str:
    """SHA-256 (hex) over the weights of a folder and those below it: their names and bytes, in the order of the names.

    Args:
        folder: Of an export or of published weights.

    Returns:
        64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    files = {file.relative_to(folder).as_posix(): file for file in folder.rglob("*") if file.suffix in SUFFIXES}
    for name, file in sorted(files.items()):
        digest.update(f"{_digest_of(file)}  {name}\n".encode())
    return digest.hexdigest()


def _put(temporary: Path, path: Path, digest: str) -> None:
    """Put a complete file and its hash in place; at every moment between, what lies there is recognised as whole."""
    digest_path(path).unlink(missing_ok=True)  # of an older file of this name
    temporary.replace(path)
    _sync_folder(path.parent)
    _write_digest(path, digest)
    _sync_folder(path.parent)


def _has_its_check_sums(path: Path) -> bool:
    """``torch.save`` writes a zip archive: a CRC-32 for each tensor, the table of contents last."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return False


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _write_digest(path: Path, digest: str) -> None:
    target = digest_path(path)
    temporary = target.with_name(target.name + TEMPORARY_SUFFIX)
    with temporary.open("w", encoding="utf-8") as file:
        file.write(f"{digest}  {path.name}\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(target)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _HashingFile:
    """A file that hashes what is written to it."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()
