"""What readers of data sets in Hugging Face's columns share: from Arrow files, or straight out of parquet."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.columns import Columns, check_parquet, open_columns, parquet_sources
from mgie_lit.data.readers.index import index_folder
from mgie_lit.data.readers.parquet import ParquetRows, list_groups
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mgie_lit.data.readers.columns import Source

_MIB = 2**20


class ColumnReader(FileReader):
    """Base of the readers whose data also come in columns, as files or from the hub.

    A row's ``source`` is then its number in its split of the columns.

    Args:
        split: As in :class:`FileReader`.
        num_examples: As in :class:`FileReader`.
        root: Folder of the data, or ``hf:<owner>/<name>``.
        streaming: Read parquet files at their places rather than Arrow files that are made of them first.
        streaming_mib: Row groups that a process keeps then, MiB; as many as fit are mixed with each other in training.
        expressive: As in :class:`FileReader`.
        on_error: As in :class:`FileReader`.
        exclude: As in :class:`FileReader`.
        index_dir: As in :class:`FileReader`.
        option: As in :class:`FileReader`.

    Raises:
        ConfigError: A value can not be used.
        DataError: The folder does not hold the data set, or its annotations are faulty.
    """

    takes_hub = True
    _columns: Columns | None = None  # of this split; None in other layouts

    def __init__(
        self,
        split: str,
        num_examples: int | None = None,
        *,
        root: str | Path | None = None,
        streaming: bool = False,
        streaming_mib: int = 256,
        expressive: str | Sequence[str] | None = None,
        on_error: str = "error",
        exclude: str | Path | None = None,
        index_dir: str | Path | None = None,
        option: str = "data",
    ) -> None:
        self.streaming = streaming
        self.streaming_mib = streaming_mib
        super().__init__(
            split,
            num_examples,
            root=root,
            expressive=expressive,
            on_error=on_error,
            exclude=exclude,
            index_dir=index_dir,
            option=option,
        )

    @property
    def blocks(self) -> tuple[np.ndarray, int] | None:
        """What :func:`mgie_lit.data.order.order_of` asks for: stretches of one row group, as many as are kept."""
        if self._columns is None or not isinstance(self._columns.source, ParquetRows):
            return None
        rows = self._rows.table["source"].take(pa.array(self._positions, pa.int64()))
        groups = self._columns.source.group_of(pc.cast(rows, pa.int64()).to_numpy())
        return np.flatnonzero(np.diff(groups, prepend=-1)), self._columns.source.held

    def open_columns(self, aliases: Mapping[str, Sequence[str]], *, optional: Sequence[str] = ()) -> dict[str, Columns]:
        """Splits of the columns, by their names there.

        Args:
            aliases: Our name of a column -> names that it may have.
            optional: Our names of columns that may be missing.

        Returns:
            Split -> columns.

        Raises:
            ConfigError: A row group does not fit into ``streaming_mib``.
            DataError: They can not be opened, or lack a column.
        """
        cache_dir = None if self.index_dir is None else Path(self.index_dir).expanduser() / "huggingface"
        splits: Mapping[str, Source] = self._streams() if self.streaming else open_columns(self.root, cache_dir)
        return {
            split: Columns(data, aliases, optional=optional, where=f"{self.root}, {split}")
            for split, data in splits.items()
        }

    def _streams(self) -> dict[str, ParquetRows]:
        folder = index_folder(self.root, self.index_dir)
        sources = parquet_sources(self.root, f"{self.option}.streaming")
        lists = {split: list_groups(files, folder, self.folder) for split, files in sources.items()}
        largest = max((group.bytes for groups, _ in lists.values() for group in groups), default=1)
        held = self.streaming_mib * _MIB // largest
        if held < 1:
            raise ConfigError(
                f"{self.option}.streaming_mib: expected at least {-(-largest // _MIB)} MiB, the largest row group of "
                f"{self.root}, got {self.streaming_mib}; raise it if every loader process may hold that much, write "
                f"the files with smaller row groups, or use {self.option}.streaming=false"
            )
        return {split: ParquetRows(groups, names, held) for split, (groups, names) in lists.items()}

    def _checked_root(self, root: str | Path | None) -> Path:
        checked = super()._checked_root(root)
        if self.streaming:
            check_parquet(checked, f"{self.option}.streaming")
        return checked
