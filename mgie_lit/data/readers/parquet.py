"""Parquet files read at their places, on disk or behind a URL: any row by its number, a row group at a time."""

from __future__ import annotations

import hashlib
import json
import os
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from rich.console import Console
from rich.progress import track

from mgie_lit.data.readers.index import DRAFT, make_folder
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FORMAT = 1  # of the stored lists of row groups
_AT_ONCE = 16  # requests in flight; footers and words are many small ones
_FOOTERS = 64  # kept by one process


@dataclass(frozen=True, slots=True)
class RowGroup:
    """A stretch of rows that a file holds together."""

    file: str  # a path or a URL
    number: int  # in the file
    rows: int
    bytes: int  # decoded, all columns


class ParquetRows:
    """Rows of several files, one after the other. No file stays open, and nothing is held but a few row groups.

    Processes that were forked from each other go on with what was read before; a pickled one begins with nothing.

    Args:
        groups: Of all files, in order.
        column_names: Of all files.
        held: Row groups that a process keeps; the one that was not used for longest goes first.
    """

    def __init__(self, groups: Sequence[RowGroup], column_names: Sequence[str], held: int) -> None:
        self.groups = list(groups)
        self.column_names = list(column_names)
        self.held = held
        self._ends = np.cumsum([group.rows for group in self.groups], dtype=np.int64)
        self._read: OrderedDict[int, dict[str, pa.ChunkedArray]] = OrderedDict()
        self._footers: OrderedDict[str, pq.FileMetaData] = OrderedDict()
        self._lock = Lock()

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._ends[-1]) if self.groups else 0

    def __reduce__(self) -> tuple[type[ParquetRows], tuple[Any, ...]]:
        return ParquetRows, (self.groups, self.column_names, self.held)

    @property
    def fingerprint(self) -> str:
        """Changes with the row groups; files that are written anew are told by their list (:func:`list_groups`)."""
        content = json.dumps([self.column_names, *(asdict(group) for group in self.groups)])
        return hashlib.sha256(content.encode()).hexdigest()

    def group_of(self, positions: np.ndarray) -> np.ndarray:
        """Row group of each row: ``(n,)`` int64, places in ``groups``."""
        return np.searchsorted(self._ends, positions, side="right")

    def value(self, position: int, name: str) -> Any:  # noqa: ANN401
        """What is in a column of a row; the rest of that column in its row group is kept for its neighbours.

        Args:
            position: Of the row.
            name: Of the column.

        Returns:
            A Python value.

        Raises:
            DataError: The file can not be read.
        """
        number = int(self.group_of(np.array(position)))
        with self._lock:
            kept = self._read.setdefault(number, {})
            self._read.move_to_end(number)
            if len(self._read) > self.held:
                self._read.popitem(last=False)
        if name not in kept:
            kept[name] = self._columns(number, [name])[name]
        return kept[name][position - self._first(number)].as_py()

    def texts(self, names: Sequence[str], positions: range) -> dict[str, list[Any]]:
        """Values of small columns, read past what is kept.

        Args:
            names: Of the columns.
            positions: Of the rows, one after the other.

        Returns:
            Column -> values.

        Raises:
            DataError: A file can not be read.
        """
        if not positions:
            return {name: [] for name in names}
        first, last = self.group_of(np.array([positions[0], positions[-1]])).tolist()
        numbers = range(first, last + 1)
        for file in {self.groups[number].file for number in numbers}:
            self._footer(file)  # once, before several ask for it together
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            tables = list(pool.map(lambda number: self._columns(number, names), numbers))
        begin = positions.start - self._first(first)
        table = pa.concat_tables(tables).slice(begin, len(positions))
        return {name: table[name].to_pylist() for name in names}

    def _first(self, number: int) -> int:
        """Position of the first row of a group."""
        return int(self._ends[number]) - self.groups[number].rows

    def _columns(self, number: int, names: Sequence[str]) -> pa.Table:
        """Columns of a row group."""
        group = self.groups[number]
        footer = self._footer(group.file)
        with _opened(group.file) as file, pq.ParquetFile(file, metadata=footer) as parquet:
            # One thread: those of Arrow are not there in a forked process that had used them before.
            table = parquet.read_row_group(group.number, columns=list(names), use_threads=False)
        if table.num_rows != group.rows:
            raise DataError(
                f"{group.file}: expected {group.rows} rows in row group {group.number}, got {table.num_rows}; it was "
                "changed while it is read: start again"
            )
        return table

    def _footer(self, file: str) -> pq.FileMetaData:
        footer = self._footers.get(file)
        if footer is None:
            footer = _footer(file)
            with self._lock:
                self._footers[file] = footer
                if len(self._footers) > _FOOTERS:
                    self._footers.popitem(last=False)
        return footer


def list_groups(files: Sequence[str], folder: Path, option: str) -> tuple[list[RowGroup], list[str]]:
    """Row groups of files, out of their footers; the list is stored, and made anew when a file on disk is another.

    Args:
        files: Paths or URLs; what a URL names has to stay as it is.
        folder: Of the indexes.
        option: Config key of the data, for messages.

    Returns:
        Row groups in order, and the names of the columns, which all files share.

    Raises:
        DataError: A file can not be read, or has other columns than the first.
    """
    stamps = [(file, None if _is_url(file) else _stamp(Path(file))) for file in files]
    path = folder / f"parquet-{hashlib.sha256(json.dumps([FORMAT, stamps]).encode()).hexdigest()[:16]}.json"
    if not path.is_file():
        make_folder(folder)
        with FileLock(path.with_suffix(".lock")):
            if not path.is_file():  # another process may have made it meanwhile
                _store(_footers(files, option), path)
    stored = json.loads(path.read_text(encoding="utf-8"))
    return [RowGroup(**group) for group in stored["groups"]], stored["columns"]


def _footers(files: Sequence[str], option: str) -> dict[str, Any]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        bar = track(
            pool.map(_footer, files), "reading footers", len(files), console=Console(stderr=True), transient=True
        )
        footers = list(bar)
    columns = footers[0].schema.to_arrow_schema().names
    for file, footer in zip(files, footers, strict=True):
        if (names := footer.schema.to_arrow_schema().names) != columns:
            raise DataError(
                f"{file}: expected the columns of {files[0]} ({', '.join(columns)}), got {', '.join(names)}; give "
                f"{option} a folder of one data set"
            )
    groups = [
        asdict(RowGroup(file, number, footer.row_group(number).num_rows, footer.row_group(number).total_byte_size))
        for file, footer in zip(files, footers, strict=True)
        for number in range(footer.num_row_groups)
    ]
    return {"columns": columns, "groups": [group for group in groups if group["rows"]]}


def _footer(file: str) -> pq.FileMetaData:
    with _opened(file) as opened, pq.ParquetFile(opened) as parquet:
        return parquet.metadata


def _store(content: dict[str, Any], path: Path) -> None:
    draft = path.with_name(f"{DRAFT}{os.getpid()}-{path.name}")
    try:
        draft.write_text(json.dumps(content), encoding="utf-8")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def _opened(file: str) -> Iterator[BinaryIO]:
    """A file to read at places. It is opened for every read: connections do not outlive a fork."""
    import fsspec

    try:
        # No read-ahead: Arrow asks for a whole column of a row group at once.
        with fsspec.open(file, "rb", cache_type="none") if _is_url(file) else Path(file).open("rb") as opened:
            yield opened
    except DataError:
        raise
    except Exception as error:  # every file system raises its own
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        help_ = "check the network and start again (resume=<run dir>)" if _is_url(file) else "download it again"
        raise DataError(f"{file}: expected a whole parquet file, got: {reason}; {help_}") from error


def _is_url(file: str) -> bool:
    return "://" in file


def _stamp(path: Path) -> tuple[int, int]:
    state = path.stat()
    return state.st_size, state.st_mtime_ns
