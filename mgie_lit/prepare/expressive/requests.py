"""The instructions of a data set, read without its images."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from rich.console import Console
from rich.progress import track

from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray
    from PIL import Image

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.data.readers.rows import Row

_BAR_FROM = 10_000  # rows; fewer are read in no time


@runtime_checkable
class KnowsRows(Protocol):
    """A reader that gives annotations without opening images."""

    def row(self, index: int) -> Row:
        """The annotation of the example at ``index``."""
        ...


class Requests:
    """Ids and instructions of several splits in one list; an image is opened when it is asked for.

    An example that several splits share (a data set that is not divided) is there once.

    Args:
        datasets: Split -> reader.

    Raises:
        DataError: There are no examples, or two with one id and different instructions.
    """

    def __init__(self, datasets: Mapping[str, EditDataset]) -> None:
        self._datasets = datasets
        self.ids: list[str] = []
        self.splits: list[str] = []
        self.instructions: list[str] = []
        self._indices: list[int] = []
        self.position: dict[str, int] = {}  # of an id
        for split, dataset in datasets.items():
            for index, (sample_id, instruction) in enumerate(_texts(dataset, split)):
                self._add(split, index, sample_id, instruction)
        if not self.ids:
            raise DataError(
                "data: expected at least one example, got none; check expressive.splits and data.num_examples"
            )

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.ids)

    def source(self, position: int) -> Image.Image:
        """Open the source image of an example.

        Args:
            position: In ``[0, len)``.

        Returns:
            RGB, at its own size.

        Raises:
            DataError: The example's images are missing or can not be decoded.
        """
        return self._datasets[self.splits[position]][self._indices[position]].source

    def fingerprint(self) -> str:
        """SHA-256 (hex) over ids and instructions in order; images do not count."""
        digest = hashlib.sha256()
        for texts in zip(self.ids, self.instructions, strict=True):
            for text in texts:
                digest.update(text.encode("utf-8", "surrogatepass") + b"\0")
        return digest.hexdigest()

    def _add(self, split: str, index: int, sample_id: str, instruction: str) -> None:
        known = self.position.setdefault(sample_id, len(self.ids))
        if known == len(self.ids):
            self.ids.append(sample_id)
            self.splits.append(split)
            self.instructions.append(instruction)
            self._indices.append(index)
        elif self.instructions[known] != instruction:
            raise DataError(
                f"data: expected unique ids, got {sample_id} in {self.splits[known]} with {self.instructions[known]!r} "
                f"and in {split} with {instruction!r}; rename one"
            )


class BatchPlan:
    """Which examples are asked about together; it depends on the instructions alone, never on shards or restarts.

    Args:
        instructions: Of all examples.
        batch_size: Examples in a batch, at least 1.
        sort: Put instructions of like length together, longest first, so that little is padded; else their own order.
    """

    def __init__(self, instructions: Sequence[str], batch_size: int, *, sort: bool) -> None:
        lengths = np.fromiter(map(len, instructions), np.int64, len(instructions))
        self.order: NDArray[np.int64] = (
            np.argsort(-lengths, kind="stable") if sort else np.arange(len(instructions), dtype=np.int64)
        )
        self.batch_size = batch_size
        self._ranks = np.empty_like(self.order)
        self._ranks[self.order] = np.arange(len(self.order))

    def __len__(self) -> int:
        """Number of batches."""
        return -(-len(self.order) // self.batch_size)

    def positions(self, batch: int) -> list[int]:
        """Examples of a batch."""
        found: list[int] = self.order[batch * self.batch_size : (batch + 1) * self.batch_size].tolist()
        return found

    def batch_of(self, position: int) -> int:
        """The batch of an example."""
        return int(self._ranks[position]) // self.batch_size


def _texts(dataset: EditDataset, split: str) -> Iterator[tuple[str, str]]:
    """Id and instruction of every example; only readers that make their images themselves make them here."""
    indices = track(
        range(len(dataset)),
        f"reading instructions ({split})",
        console=Console(stderr=True),
        transient=True,
        disable=len(dataset) < _BAR_FROM,
    )
    for index in indices:
        if isinstance(dataset, KnowsRows):
            row = dataset.row(index)
            yield row.sample_id, row.instruction
        else:
            yield dataset.sample_id(index), dataset[index].instruction
