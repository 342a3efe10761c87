"""What all readers of files share: rows from a table, images from disk, expressive instructions, bad examples."""

from __future__ import annotations

import logging
from abc import abstractmethod
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from torch.utils.data import Dataset

from mgie_lit.data.image_files import image_size, open_image
from mgie_lit.data.readers import SPLITS, listing
from mgie_lit.data.readers.columns import is_hub
from mgie_lit.data.readers.exclusions import check_on_error, find_bad, read_exclusions, report_bad
from mgie_lit.data.readers.expressive import RAW_WORDS, load_expressive
from mgie_lit.data.readers.index import MappedTable, index_folder, is_undivided, split_range
from mgie_lit.data.readers.masks import open_mask
from mgie_lit.data.readers.rows import row_at
from mgie_lit.data.readers.sizes import sizes_folder, stored_sizes
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.types import EditExample

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from mgie_lit.data.readers.rows import Row

LOG = logging.getLogger(__name__)

_NAMES_SHOWN = 5


class FileReader(Dataset[EditExample]):
    """Base of the readers of data sets on disk.

    A reader makes the table of its rows (:meth:`load`); everything else is here. No image is opened, and no image file
    is looked for, before it is asked for.

    Args:
        split: ``train``, ``val`` or ``test``.
        num_examples: Use the first so many examples; None, or more than there are, means all.
        root: Folder of the data.
        expressive: File (or files) with expressive instructions, or ``instruction`` for the raw words; None = only what
            the data set brings.
        on_error: ``error``, or ``skip`` to leave out bad examples: those that ``exclude`` names or, without it, those
            whose images can not be opened (all are tried once), and those without an instruction in ``expressive``.
        exclude: File of JSON lines with ``id`` and ``problem``: examples that are known to be bad.
        index_dir: Where the index of a large data set is stored; None = beside the data, or in the user's cache.
        option: Config key under which these arguments are given, for messages.

    Raises:
        ConfigError: A value can not be used.
        DataError: The folder does not hold the data set, or its annotations are faulty.
    """

    name: ClassVar[str]
    takes_hub: ClassVar[bool] = False  # whether ``root`` may name a data set on the hub

    def __init__(
        self,
        split: str,
        num_examples: int | None = None,
        *,
        root: str | Path | None = None,
        expressive: str | Sequence[str] | None = None,
        on_error: str = "error",
        exclude: str | Path | None = None,
        index_dir: str | Path | None = None,
        option: str = "data",
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}; use one of these")
        if num_examples is not None and num_examples < 1:
            raise ConfigError(
                f"{option}.num_examples.{split}: expected at least 1 example, or null for all, got {num_examples}"
            )
        self.split = split
        self.option = option
        self.index_dir = index_dir
        self.on_error = check_on_error(on_error, option)
        self.root = self._checked_root(root)
        # The sub-folder where there is one: owners' archives differ in that.
        self.image_dir = self.root / "images" if (self.root / "images").is_dir() else self.root
        self._rows = self.load()
        if split == "train" and self.shared_splits():
            LOG.warning(
                "%s: %s is not divided (or too small for it): training, validation and test hold the same %d examples, "
                "so scores on them mean nothing; see docs/datasets.md#%s",
                *(self.folder, self.root, len(self._rows.table), self.name),
            )
        self._expressive = load_expressive(self._rows, expressive, option=option, name=self.name)
        self._positions = self._choose(exclude, num_examples)
        if expressive is not None and expressive != RAW_WORDS:
            self._check_expressive(expressive)

    @abstractmethod
    def load(self) -> MappedTable:
        """Make or open the table of all rows, with the ranges of the splits in its metadata."""

    @property
    def folder(self) -> str:
        """Config key of the folder, for messages."""
        return f"{self.option}.root"

    def open_images(self, row: Row) -> tuple[Image.Image, Image.Image | None, Image.Image | None]:
        """Source, target and mask of a row; here its entries are paths relative to ``self.image_dir``.

        Args:
            row: Of this data set.

        Returns:
            RGB, RGB and L (source's size, 255 = the edit may change it); None for what there is not.

        Raises:
            DataError: A file is missing or can not be decoded.
        """
        source = open_image(self.image_dir / row.source)
        target = None if row.target is None else open_image(self.image_dir / row.target)
        return source, target, None if row.mask is None else open_mask(self.image_dir / row.mask, source.size)

    def source_size(self, row: Row) -> tuple[int, int]:
        """Width and height in pixels of a row's source, from the header alone where it lies in a file of its own."""
        path = self.image_dir / row.source
        return image_size(path) if path.suffix and path.is_file() else self.open_images(row)[0].size

    def complete(self, row: Row) -> Row:
        """The row as it comes out of the table with what the table leaves out; here it leaves out nothing."""
        return row

    def __len__(self) -> int:
        """Number of examples."""
        return len(self._positions)

    def sample_id(self, index: int) -> str:
        """Id of the example at ``index``; no image is opened."""
        return str(self._rows.table["sample_id"][self._position(index)].as_py())

    def row(self, index: int) -> Row:
        """The annotation of the example at ``index``; no image is opened."""
        return self._row_at(self._position(index))

    def texts(self, index: int) -> tuple[str, str | None]:
        """Instruction and expressive instruction of the example at ``index``; no image is opened."""
        position = self._position(index)
        expressive = self._expressive.table["expressive_instruction"][position].as_py()
        return row_at(self._rows.table, position).instruction, expressive

    def text_lengths(self) -> np.ndarray:
        """Characters of each example's instruction and expressive instruction; no image is opened.

        Returns:
            ``(len, 2)`` int64, 0 where there is none.
        """
        columns = self._rows.table["instruction"], self._expressive.table["expressive_instruction"]
        counts = [pc.fill_null(pc.utf8_length(column), 0).to_numpy() for column in columns]
        lengths: np.ndarray = np.stack(counts, axis=1).astype(np.int64)[np.asarray(self._positions)]
        return lengths

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Files of source and target of the example at ``index``; none where they do not lie in files of their own."""
        row = self.row(index)
        files = tuple(self.image_dir / name for name in (row.source, row.target) if name is not None)
        return files if all(file.is_file() for file in files) else ()

    def source_sizes(self) -> np.ndarray:
        """Width and height of each example's source: measured at the first time, kept beside the index.

        Returns:
            ``(len, 2)`` int32, pixels.

        Raises:
            DataError: A source can not be opened; the message gives id, row and path.
        """
        rows = split_range(self._rows.table, self.split)
        table = self._rows.table.slice(rows.start, len(rows))
        folder = sizes_folder(index_folder(self.root, self.index_dir), f"{self.name}-{self.split}", table)
        return stored_sizes(
            folder,
            np.asarray(self._positions) - rows.start,
            len(rows),
            lambda place: self._measured(rows.start + place),
            self.name,
        )

    def __getitem__(self, index: int) -> EditExample:
        """Open the example at ``index``.

        Args:
            index: In ``[0, len)``; negative ones are not counted from the end.

        Returns:
            Images at their own sizes; source and target may differ in size.

        Raises:
            IndexError: ``index`` is outside ``[0, len)``.
            DataError: An image is missing or can not be decoded; the message gives id, row and path.
        """
        return self._example(self._position(index))

    def shared_splits(self) -> tuple[str, ...]:
        """All splits where the data are not divided, else none."""
        return SPLITS if is_undivided(self._rows.table) else ()

    def missing_expressive(self) -> tuple[int, list[str]]:
        """How many examples have no expressive instruction, and the ids of the first few."""
        positions = self._without_expressive()
        return len(positions), self._ids(positions[:_NAMES_SHOWN])

    def _example(self, position: int) -> EditExample:
        row = self._row_at(position)
        with _faults_of(row):
            source, target, mask = self.open_images(row)
        return EditExample(
            sample_id=row.sample_id,
            source=source,
            target=target,
            instruction=row.instruction,
            expressive_instruction=self._expressive.table["expressive_instruction"][position].as_py(),
            caption=row.caption,
            mask=mask,
            turn=row.turn,
            session_id=row.session_id,
            attributes=dict(row.attributes),
        )

    def _measured(self, position: int) -> tuple[int, int]:
        row = self._row_at(position)
        with _faults_of(row):
            return self.source_size(row)

    def _row_at(self, position: int) -> Row:
        return self.complete(row_at(self._rows.table, position))

    def _position(self, index: int) -> int:
        """Position in the table of the example at ``index``."""
        if not 0 <= index < len(self._positions):
            raise IndexError(f"index: expected 0 to {len(self._positions) - 1}, got {index}")
        return int(self._positions[index])

    def _checked_root(self, root: str | Path | None) -> Path:
        anchor = f"see docs/datasets.md#{self.name}"
        if root is None:
            raise ConfigError(f"{self.folder}: expected the folder of {self.name}, got null; {anchor}")
        if self.takes_hub and is_hub(str(root)):
            return Path(root)
        path = Path(root).expanduser()
        if not path.is_dir():
            what = "a file" if path.is_file() else "not there"
            raise ConfigError(
                f"{self.folder}: expected the folder of {self.name}, got {root}, which is {what}; {anchor}"
            )
        return path

    def _choose(self, exclude: str | Path | None, num_examples: int | None) -> Sequence[int] | np.ndarray:
        """Positions of the examples: those of the split without the bad ones, the first ``num_examples`` of them."""
        positions = split_range(self._rows.table, self.split)
        if not positions:
            raise DataError(
                f"{self.folder}: expected examples of {self.name} for the split {self.split}, got none in {self.root}; "
                f"see docs/datasets.md#{self.name}"
            )
        bad: dict[int, str] = {}
        if exclude is not None:
            problems = read_exclusions(exclude, self.option)
            ids = self._rows.table["sample_id"].slice(positions.start, len(positions))
            hits = np.flatnonzero(pc.is_in(ids, value_set=pa.array(problems.keys(), pa.string())).to_numpy())
            bad = {positions.start + int(hit): problems[ids[int(hit)].as_py()] for hit in hits}
        elif self.on_error == "skip":
            bad = find_bad(positions, self._fault, self.name, wanted=num_examples)
        problems = dict(zip(self._ids(list(bad)), bad.values(), strict=True))
        report_bad(problems, len(positions), on_error=self.on_error, option=self.option)
        kept = positions if not bad else np.setdiff1d(np.asarray(positions), np.fromiter(bad, int))
        if not len(kept):
            raise DataError(f"{self.option}: all {len(positions)} examples of the split {self.split} are bad")
        return kept[:num_examples]

    def _fault(self, position: int) -> str:
        """What is wrong with the images at a position, empty where they open."""
        try:
            self.open_images(self._row_at(position))
        except DataError as error:
            return str(error)
        return ""

    def _check_expressive(self, given: str | Sequence[str]) -> None:
        """Every example shall have a text in the file that the user gave; with ``skip`` others are left out."""
        without = self._without_expressive()
        if not len(without):
            return
        count, total, shown = len(without), len(self), listing(self._ids(without[:_NAMES_SHOWN]), len(without))
        if self.on_error == "error" or count == total:
            raise DataError(
                f"{self.option}.expressive: expected a text for each of the {total} {self.split} examples of "
                f"{self.name}, got none for {count} of them ({shown}) in {given}; complete it with "
                f"`mgie prepare expressive`, or leave them out with {self.option}.on_error=skip"
            )
        problems = dict.fromkeys(self._ids(without), "no expressive instruction")
        report_bad(problems, total, on_error="skip", option=self.option)
        self._positions = np.setdiff1d(np.asarray(self._positions), without)

    def _without_expressive(self) -> np.ndarray:
        """Positions of examples without an expressive instruction."""
        positions = np.asarray(self._positions)
        column = self._expressive.table["expressive_instruction"]
        if not len(positions) or not column.null_count:
            return positions[:0]
        without: np.ndarray = positions[column.is_null().to_numpy()[positions]]
        return without

    def _ids(self, positions: Sequence[int] | np.ndarray) -> list[str]:
        ids: list[str] = self._rows.table["sample_id"].take(pa.array(positions, pa.int64())).to_pylist()
        return ids


@contextmanager
def _faults_of(row: Row) -> Iterator[None]:
    """What is wrong with a row's images is told with its id and place."""
    try:
        yield
    except DataError as error:
        raise DataError(f"{row.sample_id} ({row.origin}): {error}") from error
