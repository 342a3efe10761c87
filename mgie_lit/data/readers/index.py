"""Tables too long to be made at every start: built once, part by part, and memory-mapped from then on."""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track

from mgie_lit.data.readers import SPLITS
from mgie_lit.data.readers.rows import SCHEMA, check_ids, concat, make_table
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mgie_lit.data.readers.rows import Row

LOG = logging.getLogger(__name__)

UNDIVIDED = "all"  # split of parts that are the same in training, validation and test
FORMAT = 1  # of the stored tables; raise it when their content changes for the same annotations
FOLDER = ".mgie_lit"  # beside the data
DRAFT = ".draft-"  # begins the names of files that are not whole
_ORDER = (*SPLITS, UNDIVIDED)
CACHE = Path("~/.cache/mgie_lit")  # where the data's own folder can not be written


@dataclass(frozen=True, slots=True)
class Part:
    """A piece of a data set that is read in one go."""

    split: str  # or UNDIVIDED
    rows: Callable[[], Iterable[Row]]


class MappedTable:
    """A table, in memory or mapped from a file; a mapped one is pickled as its path, so workers share its pages."""

    def __init__(self, table: pa.Table, path: Path | None = None) -> None:
        self.table = table
        self.path = path

    @classmethod
    def open(cls, path: Path) -> MappedTable:
        """Map a file written by :func:`write_table`."""
        with pa.memory_map(str(path)) as file:
            return cls(pa.ipc.open_file(file).read_all(), path)

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "table": None if self.path else self.table}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.path = state["path"]
        self.table = state["table"] if self.path is None else MappedTable.open(self.path).table


def in_memory(parts: Sequence[Part], option: str) -> MappedTable:
    """All parts as one table, in the order of the splits.

    Args:
        parts: Of a small data set.
        option: Config key of its folder, for messages.

    Returns:
        The table; its metadata say where each split is.

    Raises:
        DataError: Two rows share an id, or an id is unsafe.
    """
    tables = {split: concat([make_table(part.rows()) for part in parts if part.split == split]) for split in _ORDER}
    table = concat(list(tables.values())).replace_schema_metadata(_ranges(tables))
    check_ids(table, option)
    return MappedTable(table)


def stored(make_parts: Callable[[], Sequence[Part]], path: Path, *, option: str, what: str) -> MappedTable:
    """The table at ``path``, which is built first if it is not there.

    What an interrupted build has finished is used by the next one; processes that start together build it once.

    Args:
        make_parts: Gives the parts of the data set, the same ones for the same path; called only to build.
        path: Of the index; its name tells what it was made from.
        option: Config key of the data's folder, for messages.
        what: Name of the data set, for messages.

    Returns:
        The table, mapped.

    Raises:
        DataError: Two rows share an id, an id is unsafe, or the annotations can not be read.
    """
    if not path.exists():
        make_folder(path.parent)
        with _locked(path.with_suffix(".lock"), what):
            if not path.exists():  # another process may have built it meanwhile
                _build(make_parts(), path, option, what)
    return MappedTable.open(path)


def split_range(table: pa.Table, split: str) -> range:
    """Positions of a split in a table made here; all there are if the data set is not divided."""
    first, last = table.schema.metadata[split.encode()].decode().split(":")
    return range(int(first), int(last))


def is_undivided(table: pa.Table) -> bool:
    """Whether all splits are the same rows."""
    return len(table) > 0 and len({split_range(table, split) for split in SPLITS}) == 1


def index_path(name: str, key: str, root: Path, index_dir: str | Path | None) -> Path:
    """Where the index of a data set lies.

    Args:
        name: Of the reader.
        key: Hash of what the index is made from.
        root: Folder of the data.
        index_dir: What the user chose; None = beside the data, or in the user's cache if nothing can be written there.

    Returns:
        A path; its folder holds the indexes of this root alone.
    """
    digest = hashlib.sha256(f"{FORMAT} {name} {key}".encode()).hexdigest()
    file = f"{name}-{digest[:16]}.arrow"
    if index_dir is None and (made := root.resolve() / FOLDER / file).is_file():
        return made  # by somebody who may write there
    return index_folder(root, index_dir) / file


def index_folder(root: Path, index_dir: str | Path | None) -> Path:
    """Folder of what is kept for a data set.

    Args:
        root: Folder of the data.
        index_dir: What the user chose; None = beside the data, or in the user's cache if nothing can be written there.

    Returns:
        A path that belongs to this root alone.

    Raises:
        DataError: ``index_dir`` is a file.
    """
    root = root.resolve() if root.is_dir() else root  # a name on the hub is no folder
    if index_dir is None and root.is_dir() and _is_writable(root):
        return root / FOLDER
    own = f"{root.name}-{hashlib.sha256(str(root).encode()).hexdigest()[:8]}"
    folder = CACHE.expanduser() if index_dir is None else Path(index_dir).expanduser()
    if folder.exists() and not folder.is_dir():
        raise DataError(f"data.index_dir: expected a folder, got the file {folder}; name another one")
    if index_dir is None and root.is_dir():
        LOG.info("%s can not be written; its index goes into %s (or choose data.index_dir)", root, folder / own)
    return folder / own


def writable_place(path: Path) -> Path:
    """The path itself if it is there or can be written, else one in the user's cache, whose folder is made."""
    if path.exists() or _is_writable(path.parent):
        return path
    place = CACHE.expanduser() / f"beside-{hashlib.sha256(str(path.parent.resolve()).encode()).hexdigest()[:8]}"
    make_folder(place)
    return place / path.name


def make_folder(folder: Path) -> None:
    """Make a folder for what is kept of a data set, or say that it can not be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"data.index_dir: expected a folder that can be written, got {folder} ({error.strerror}); name another one"
        ) from error


def write_table(batches: Iterable[pa.Table], schema: pa.Schema, path: Path) -> None:
    """Write tables into one Arrow file, whole or not at all."""
    draft = path.with_name(f"{DRAFT}{os.getpid()}-{path.name}")
    try:
        with pa.OSFile(str(draft), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
            for batch in batches:
                writer.write_table(batch)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _build(parts: Sequence[Part], path: Path, option: str, what: str) -> None:
    stale = [other for other in path.parent.glob(f"{path.name.rpartition('-')[0]}-*.arrow") if other != path]
    if stale:
        LOG.warning("%s: the annotations of %s have changed since they were indexed; indexing again", option, what)
    for draft in path.parent.glob(f".*-{path.name}"):  # of a build that was killed at its end
        draft.unlink(missing_ok=True)
    folder = path.with_suffix(".parts")
    folder.mkdir(exist_ok=True)
    files = [folder / f"{number:05d}.arrow" for number in range(len(parts))]
    jobs = list(zip(parts, files, strict=True))
    done = sum(file.exists() for file in files)
    if done:
        LOG.info("%s: going on with the index of %s, %d of %d parts are there", option, what, done, len(parts))
    for part, file in track(jobs, f"indexing {what}", console=Console(stderr=True), transient=True):
        if not file.exists():
            write_table([make_table(part.rows())], SCHEMA, file)
    tables = {
        split: concat([MappedTable.open(file).table for part, file in jobs if part.split == split]) for split in _ORDER
    }
    check_ids(concat(list(tables.values())), option)
    write_table(tables.values(), SCHEMA.with_metadata(_ranges(tables)), path)
    LOG.info("%s: index of %s written to %s", option, what, path)
    shutil.rmtree(folder)
    for other in stale:
        other.unlink(missing_ok=True)


def _ranges(tables: Mapping[str, pa.Table]) -> dict[str, str]:
    if len(tables[UNDIVIDED]):
        return dict.fromkeys(SPLITS, f"0:{len(tables[UNDIVIDED])}")
    ranges: dict[str, str] = {}
    first = 0
    for split in SPLITS:
        ranges[split] = f"{first}:{first + len(tables[split])}"
        first += len(tables[split])
    return ranges


def _locked(path: Path, what: str) -> FileLock:
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        LOG.info("waiting for another process that indexes %s", what)
        return lock
    lock.release()
    return lock


def _is_writable(folder: Path) -> bool:
    """Whether we may write there; a folder marked read-only is left alone, by root too."""
    marked = folder.stat().st_mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH)
    return bool(marked) and os.access(folder, os.W_OK)
