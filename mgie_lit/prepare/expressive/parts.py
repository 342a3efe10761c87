"""The unfinished file: one append-only part a shard, written so that a kill at any moment costs one batch at most."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mgie_lit.prepare.expressive.requests import BatchPlan, Requests
    from mgie_lit.prepare.expressive.shards import Shard

SUFFIX = ".parts"
_LOCK = ".lock"
_START_LOCK_SECONDS = 600


@dataclass
class PartScan:
    """What a part holds: its whole batches, and where their rows stand in the file."""

    path: Path
    batches: list[int] = field(default_factory=list)
    rows: list[tuple[int, int, int]] = field(default_factory=list)  # position of the example, offset, bytes
    end: int = 0  # of the last whole batch; what follows was being written when the process was killed


def parts_folder(path: Path) -> Path:
    """Where the parts of a file lie until it is finished."""
    return path.with_name(path.name + SUFFIX)


def part_path(folder: Path, shard: Shard) -> Path:
    """The part that a shard writes."""
    return folder / f"part-{shard.index:05d}-of-{shard.count:05d}.jsonl"


def json_line(row: dict[str, Any]) -> bytes:
    """A row as one line of UTF-8; letters that UTF-8 has not (lone surrogates) are escaped."""
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


@contextmanager
def claimed(folder: Path, shard: Shard) -> Iterator[Path]:
    """Keep other processes from the part of a shard; the lock goes with the process, however that ends.

    Args:
        folder: Of the parts; it is there.
        shard: Of this process.

    Yields:
        Path of the part.

    Raises:
        ConfigError: Another process has this shard, or one of another number of shards is at work.
    """
    path = part_path(folder, shard)
    own = FileLock(f"{path}{_LOCK}")
    with ExitStack() as stack:
        with FileLock(folder / f"start{_LOCK}", timeout=_START_LOCK_SECONDS):
            for lock in sorted(folder.glob(f"part-*{_LOCK}")):
                if not lock.name.endswith(f"-of-{shard.count:05d}.jsonl{_LOCK}") and _is_held(FileLock(lock)):
                    raise ConfigError(
                        f"expressive.shard: expected the number of shards that are at work on {folder}, got "
                        f"{shard.count}, but {lock.name.removesuffix(_LOCK)} is being written; let it end, or stop it"
                    )
            try:
                stack.enter_context(own.acquire(timeout=0))
            except Timeout:
                raise ConfigError(
                    f"expressive.shard: expected a shard that nobody works on, but another process writes {path}; give "
                    "another shard, or stop that one"
                ) from None
        yield path


def append_rows(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Add the rows of a whole batch; when this returns they are on the disk."""
    is_new = not path.exists()
    with path.open("ab") as file:
        file.write(b"".join(map(json_line, rows)))
        file.flush()
        os.fsync(file.fileno())
    if is_new:
        sync_folder(path.parent)


def repair(path: Path, scan: PartScan) -> None:
    """Cut off what a killed process had not finished writing."""
    if path.exists() and path.stat().st_size > scan.end:
        with path.open("r+b") as file:
            file.truncate(scan.end)
            os.fsync(file.fileno())


def scan_parts(folder: Path, requests: Requests, plan: BatchPlan, settings_hash: str) -> list[PartScan]:
    """Read all parts; a batch that two of them hold (locks do not work on every network drive) counts once.

    Args:
        folder: Of the parts.
        requests: What is asked.
        plan: Its batches.
        settings_hash: That every row has to have.

    Returns:
        One scan a part, with the batches that no part before it holds.

    Raises:
        DataError: A row in the middle of a part is damaged, or belongs to another run.
    """
    done: set[int] = set()
    scans = []
    for path in sorted(folder.glob("part-*.jsonl")):
        scan = scan_part(path, requests, plan, settings_hash)
        repeated = done.intersection(scan.batches)
        if repeated:
            scan.rows = [row for row in scan.rows if plan.batch_of(row[0]) not in repeated]
            scan.batches = [batch for batch in scan.batches if batch not in repeated]
        done.update(scan.batches)
        scans.append(scan)
    return scans


def scan_part(path: Path, requests: Requests, plan: BatchPlan, settings_hash: str) -> PartScan:
    """Read one part up to its last whole batch.

    Args:
        path: Of the part; one that is not there is empty.
        requests: What is asked.
        plan: Its batches.
        settings_hash: That every row has to have.

    Returns:
        Its batches and rows.

    Raises:
        DataError: A line in the middle is damaged, or belongs to another run.
    """
    scan = PartScan(path)
    if not path.exists():
        return scan
    group: list[tuple[int, int, int]] = []  # rows of the batch that is being read
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            if not line.endswith(b"\n"):
                break  # torn
            position = _position(line, f"{path}, line {number}", requests, settings_hash)
            group.append((position, offset, len(line)))
            offset += len(line)
            batch = plan.batch_of(group[0][0])
            expected = plan.positions(batch)
            if position != expected[len(group) - 1]:
                raise DataError(
                    f"{path}, line {number}: expected the row of {requests.ids[expected[len(group) - 1]]}, got that of "
                    f"{requests.ids[position]}; the file was changed, so remove it and its rows are made again"
                )
            if len(group) == len(expected):
                scan.batches.append(batch)
                scan.rows += group
                scan.end = offset
                group = []
    return scan


def _position(line: bytes, where: str, requests: Requests, settings_hash: str) -> int:
    try:
        row = json.loads(line)
        position, found = requests.position[row["id"]], row["settings"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{where}: expected a row of this run, got something else ({error!r}); remove the file, its rows are "
            "made again"
        ) from error
    if found != settings_hash:
        raise DataError(
            f"{where}: expected settings {settings_hash}, got {found}; remove the file, its rows are made again"
        )
    return position


def _is_held(lock: FileLock) -> bool:
    try:
        lock.acquire(timeout=0)
    except Timeout:
        return True
    lock.release()
    return False


def sync_folder(folder: Path) -> None:
    """Make the names of new files in a folder outlive a power cut; not every system can."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(handle)
    except OSError:
        pass
    finally:
        os.close(handle)
