"""Writing the splits of a data set, shard after shard; a stopped run goes on behind its last whole shard."""

from __future__ import annotations

import errno
import json
import logging
import os
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader

from mgie_lit.data.readers.index import DRAFT, MappedTable
from mgie_lit.errors import DataError
from mgie_lit.prepare.shards.manifest import LOCK, check_settings, digests_of, same_splits, write_index
from mgie_lit.prepare.shards.packing import PackedFrom
from mgie_lit.prepare.shards.tar_file import (
    PARTS,
    TarShard,
    facts_of,
    file_hash,
    finished_shards,
    rows_path,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mgie_lit.data.readers import EditDataset

LOG = logging.getLogger(__name__)

_CAN_NOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES}


def write_shards(
    folder: Path,
    datasets: Mapping[str, EditDataset],
    settings: Mapping[str, Any],
    *,
    max_bytes: int,
    num_workers: int = 0,
    verify: bool = False,
) -> dict[str, int]:
    """Write data sets as shards; what a stopped run has finished is kept.

    Args:
        folder: Is made where it is missing.
        datasets: By split. Splits that are the same examples are written once.
        settings: Plain values that decide on the content; a stopped run goes on only with the same ones.
        max_bytes: Of a shard; an example that is larger alone gets one of its own.
        num_workers: Loader processes.
        verify: Read finished shards again; damaged ones are written anew.

    Returns:
        Number of examples by split.

    Raises:
        ConfigError: The folder holds other data.
        DataError: Another process writes there, the disk is full or can not be written, an image can not be opened, or
            splits share some of their ids.
    """
    with _writable(folder), _locked(folder):
        same = same_splits(datasets)
        noted = {**settings, "shards.max_bytes": max_bytes, "ids": digests_of(datasets)}
        check_settings(folder, json.loads(json.dumps(noted)))
        _remove_drafts(folder)
        if verify:
            _drop_damaged(folder)
        for split in dict.fromkeys(same.values()):
            _write_split(folder, split, datasets[split], max_bytes, num_workers)
        write_index(folder, same)
    return {split: len(dataset) for split, dataset in datasets.items()}


@contextmanager
def _writable(folder: Path) -> Iterator[None]:
    """Make the folder; say it when the disk takes no more, and leave room there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in _CAN_NOT_WRITE:
            raise
        _remove_drafts(folder)
        raise DataError(
            f"shards.path: can not write to {folder} ({os.strerror(error.errno)}); the shards that are whole are kept: "
            "make room, then run the same command again to go on behind them"
        ) from error


def _locked(folder: Path) -> AbstractContextManager[Any]:
    try:
        return FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"shards.path: another process writes to {folder}; wait for it, or give another folder"
        ) from error


def _remove_drafts(folder: Path) -> None:
    for draft in folder.rglob(f"{DRAFT}*"):
        draft.unlink()


def _write_split(folder: Path, split: str, dataset: EditDataset, max_bytes: int, num_workers: int) -> None:
    done = finished_shards(folder, split)
    first = sum(len(MappedTable.open(rows_path(folder, name)).table) for name in done)
    if first:
        LOG.info("shards.path: %d of %d %s examples are there", first, len(dataset), split)
    if first == len(dataset):
        return
    loader = DataLoader(PackedFrom(dataset, first), batch_size=None, num_workers=num_workers)
    for part in (folder / PARTS).glob(f"{split}-*.arrow"):  # after a gap: may be of another run's cut
        if f"{part.stem}.tar" not in done:
            part.unlink()
    names = (f"{split}-{number:06d}.tar" for number in range(len(done), 10**6))
    shard = None
    for packed in track(loader, f"writing {split}", console=Console(stderr=True), transient=True):
        if shard is not None and shard.bytes_with(packed) > max_bytes:
            shard.finish()
            shard = None
        shard = shard or TarShard(folder, next(names))
        shard.add(packed)
    if shard is not None:
        shard.finish()


def _drop_damaged(folder: Path) -> None:
    for part in sorted((folder / PARTS).glob("*.arrow")):
        path = folder / f"{part.stem}.tar"
        if path.is_file() and file_hash(path) != facts_of(part).get("sha256"):
            LOG.warning("shards.path: %s is damaged; it and those after it are made again", path)
            path.unlink()
