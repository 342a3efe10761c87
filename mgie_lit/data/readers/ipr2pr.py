"""IPr2Pr, the generated pairs that InstructPix2Pix was trained on (Brooks et al., arXiv:2211.09800)."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from mgie_lit.data.readers.annotations import content_hash, no_layout, optional_text, source_caption, text_of
from mgie_lit.data.readers.column_reader import ColumnReader
from mgie_lit.data.readers.columns import is_columns
from mgie_lit.data.readers.held_files import HeldFiles
from mgie_lit.data.readers.index import UNDIVIDED, MappedTable, Part, in_memory, index_path, stored
from mgie_lit.data.readers.ipr2pr_folders import SEEDS, prompt_folders, prompt_rows, seed_prompts, with_paths
from mgie_lit.data.readers.ipr2pr_tsv import (
    EXPRESSIVE,
    PICKLE,
    TSV,
    open_pair,
    packed_rows,
    read_packed_expressive,
    read_prompts,
)
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from mgie_lit.data.readers.columns import Columns

SHARES = {"train": (0, 90), "val": (90, 95), "test": (95, 100)}  # percent of the prompts by position; owners' loader
MIN_PROMPTS = 20  # fewer can not be divided: validation would be empty
STORED_FROM = 2000  # prompts; fewer are read at every start
STORED_FROM_BYTES = 2**17  # the same of an annotation file
PART_PROMPTS = 2000  # prompts of a part of the index
_PUBLISHED_SPLIT = "train"  # in columns
COLUMNS = {
    "instruction": ("edit_prompt", "instruction", "edit"),
    "source": ("original_image", "input_image"),
    "target": ("edited_image", "output_image"),
    "caption": ("edited_prompt",),
    "source_caption": ("original_prompt",),
}


@dataclass(frozen=True, slots=True)
class _Layout:
    """One way in which the data lie on disk."""

    key: str  # changes with the annotations
    is_large: bool
    prompts: Callable[[], Sequence[Any]]  # all, in the order that splits go by
    rows: Callable[[Sequence[Any]], Iterable[Row]]  # of some of them


class IPr2Pr(ColumnReader):
    """A pair and its prompt are an example; pairs of one prompt share their ``session_id``.

    Three layouts are read: the authors' folders, Hugging Face's columns (also ``root="hf:<owner>/<name>"``, the only
    one that may download), and ml-mgie's tsv, pickle and JSON files. Splits are the authors': by position of the
    prompt, 90, 5 and 5 percent; fewer than 20 prompts are not divided.
    """

    name = "ipr2pr"

    def load(self) -> MappedTable:
        """Find the layout, and read its rows or open their index."""
        self.image_dir = self.root
        self._held = HeldFiles()
        layout = self._layout()
        make_parts = partial(_parts, layout)
        if not layout.is_large:
            return in_memory(make_parts(), self.folder)
        # A name of its own: an index of one kind does not replace that of the other.
        kept_as = f"streamed_{self.name}" if self.streaming else self.name
        path = index_path(kept_as, layout.key, self.root, self.index_dir)
        return stored(make_parts, path, option=self.folder, what=self.name)

    def complete(self, row: Row) -> Row:
        """The row with the paths that its id tells, where pairs lie in folders."""
        return with_paths(row) if row.source == "" else row

    def open_images(self, row: Row) -> tuple[Image.Image, Image.Image | None, Image.Image | None]:
        """Source and target of a row.

        Args:
            row: Of this data set.

        Returns:
            RGB, RGB and no mask.

        Raises:
            DataError: An image is missing or can not be decoded.
        """
        if self._columns is not None:
            return self._columns.image(int(row.source), "source"), self._columns.image(int(row.source), "target"), None
        if row.target is None:
            return *open_pair(self._held, self.root / TSV, int(row.source)), None
        return super().open_images(row)

    def source_size(self, row: Row) -> tuple[int, int]:
        """Width and height in pixels of a row's source."""
        if self._columns is not None:
            return self._columns.size(int(row.source), "source")
        return super().source_size(row)

    def _layout(self) -> _Layout:
        if (self.root / PICKLE).is_file() and not self.streaming:
            return _packed_layout(self.root)
        if is_columns(self.root):
            self._columns = self._only_split()
            return _columns_layout(self._columns)
        if (seeds := self.root / SEEDS).is_file():
            is_large = seeds.stat().st_size >= STORED_FROM_BYTES
            prompts = partial(seed_prompts, seeds)
            return _Layout(f"folders {content_hash(seeds)}", is_large, prompts, partial(prompt_rows, self.root))
        if names := prompt_folders(self.root):
            key = hashlib.sha256("/".join(names).encode()).hexdigest()
            rows = partial(prompt_rows, self.root)
            return _Layout(f"scanned {key}", len(names) >= STORED_FROM, lambda: [(name, None) for name in names], rows)
        expected = f"{SEEDS}, folder with a prompt.json, parquet file or {PICKLE}"
        raise no_layout(self.folder, self.root, expected, self.name, [SEEDS, PICKLE])

    def _only_split(self) -> Columns:
        """The split that its owners divide no further; here splits are made by position."""
        splits = self.open_columns(COLUMNS, optional=("caption", "source_caption"))
        if _PUBLISHED_SPLIT not in splits:
            raise DataError(
                f"{self.folder}: expected the split {_PUBLISHED_SPLIT} in {self.root}, got {', '.join(splits)} only; "
                "download the other files, or give them names that begin with it"
            )
        return splits[_PUBLISHED_SPLIT]


def _packed_layout(root: Path) -> _Layout:
    files = [root / name for name in (PICKLE, EXPRESSIVE) if (root / name).is_file()]
    expressive: dict[str, str | None] = {}

    def prompts() -> Sequence[Any]:
        expressive.update(read_packed_expressive(root))
        return read_prompts(root)

    is_large = files[0].stat().st_size >= STORED_FROM_BYTES
    return _Layout(f"packed {content_hash(*files)}", is_large, prompts, lambda some: packed_rows(some, expressive))


def _columns_layout(columns: Columns) -> _Layout:
    return _Layout(
        f"columns {columns.fingerprint}",
        len(columns) >= STORED_FROM,
        lambda: range(len(columns)),
        lambda some: _column_rows(columns, range(some[0], some[-1] + 1)),
    )


def _column_rows(columns: Columns, positions: range) -> Iterator[Row]:
    for position, entry in zip(
        positions, columns.texts(["instruction", "caption", "source_caption"], positions), strict=True
    ):
        where = f"row {position}"
        yield Row(
            sample_id=f"hf-{position:07d}",
            instruction=text_of(entry, "instruction", f"{columns.where}, {where}"),
            source=str(position),
            target=str(position),
            caption=optional_text(entry, "caption"),
            attributes=source_caption(entry, "source_caption"),
            origin=where,
        )


def _parts(layout: _Layout) -> list[Part]:
    """Pieces of the splits; none reaches over the border of a split."""
    prompts = layout.prompts()
    count = len(prompts)
    borders = {split: (begin * count // 100, end * count // 100) for split, (begin, end) in SHARES.items()}
    if count < MIN_PROMPTS:
        borders = {UNDIVIDED: (0, count)}
    return [
        Part(split, partial(layout.rows, prompts[first : min(first + PART_PROMPTS, end)]))
        for split, (begin, end) in borders.items()
        for first in range(begin, end, PART_PROMPTS)
    ]
