"""Files whose names carry the hash of their content: whole or not there, and checked before they are trusted."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING

from mgie_lit.data.readers.annotations import content_hash
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_NAME = re.compile(r"(\d{6})-([0-9a-f]{16})\.[a-z]+")
_DRAFT = ".draft-"
_VERIFIED = "verified.json"  # name -> stamp at which its hash was right


def stamp(path: Path) -> str:
    """Size and times of a file, as text: as long as it is the same nobody has written to the file."""
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}"


def numbered_files(folder: Path) -> list[Path]:
    """The finished files of a folder, in the order in which they were written."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))


def write_numbered(folder: Path, suffix: str, write: Callable[[Path], None]) -> Path:
    """Add a file; it appears under its name when all of it is on disk.

    Args:
        folder: Is made where it is missing; one process writes at a time.
        suffix: Of the file, with dot.
        write: Writes the content to the path that it is given.

    Returns:
        Path of the file, ``<number>-<hash><suffix>``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    there = numbered_files(folder)
    number = int(there[-1].name[:6]) + 1 if there else 0
    draft = folder / f"{_DRAFT}{os.getpid()}{suffix}"
    try:
        write(draft)
        with draft.open("rb+") as file:
            os.fsync(file.fileno())
        path = folder / f"{number:06d}-{content_hash(draft)[:16]}{suffix}"
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def remove_drafts(folder: Path) -> None:
    """Remove what a killed process left; only while no other one writes."""
    for path in folder.rglob(f"{_DRAFT}*"):
        path.unlink(missing_ok=True)


def damaged_files(folder: Path, *, trust_stamps: bool = True) -> list[Path]:
    """Files whose content is not what their names say.

    A file that was right once and that nobody has written to since is not read again.

    Args:
        folder: With files made by :func:`write_numbered`.
        trust_stamps: False = read all of them.

    Returns:
        Those that are damaged.
    """
    record = folder / _VERIFIED
    known: dict[str, str] = _read_record(record) if trust_stamps else {}
    verified: dict[str, str] = {}
    damaged: list[Path] = []
    for path in numbered_files(folder):
        now = stamp(path)
        match = _NAME.fullmatch(path.name)
        assert match is not None
        if known.get(path.name) == now or content_hash(path)[:16] == match[2]:
            verified[path.name] = now
        else:
            damaged.append(path)
    if verified != known:
        _write_record(record, verified)
    return damaged


def require_whole(folder: Path, remedy: str) -> None:
    """Check all files of a folder.

    Args:
        folder: With files made by :func:`write_numbered`.
        remedy: What to do, for the message.

    Raises:
        DataError: Files are damaged; the message names the first.
    """
    damaged = damaged_files(folder)
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise DataError(
            f"data.cache: {damaged[0]}{more}: the content does not fit the hash in the name, so it is damaged; {remedy}"
        )


def _read_record(path: Path) -> dict[str, str]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_record(path: Path, content: dict[str, str]) -> None:
    draft = path.with_name(f"{_DRAFT}{os.getpid()}-{path.name}")
    try:
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(path)
    except OSError:  # a folder that can only be read: the files are checked anew the next time
        draft.unlink(missing_ok=True)
