"""Which pixels each example had when it was encoded, and how to see that it still has them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from mgie_lit.data.cache.files import numbered_files, stamp, write_numbered
from mgie_lit.data.readers.annotations import content_hash

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from mgie_lit.types import EditExample

FOLDER, SUFFIX = "samples", ".arrow"
_SCHEMA = pa.schema(
    [
        ("place", pa.uint64()),  # hash of the id, to find it by
        ("sample_id", pa.string()),
        ("source", pa.binary(32)),
        ("target", pa.binary(32)),
        ("stamps", pa.string()),
        ("content", pa.string()),
    ]
)


@runtime_checkable
class KnowsFiles(Protocol):
    """A reader that can tell an example's texts and image files without opening an image."""

    def texts(self, index: int) -> tuple[str, str | None]:
        """Instruction and expressive instruction of the example at ``index``."""
        ...

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Files of its source and target; none where they do not lie in files of their own."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """What was encoded for one example."""

    sample_id: str
    source: bytes  # SHA-256 of its decoded pixels
    target: bytes
    stamps: str = ""  # of the image files, empty where there are none
    content: str = ""  # SHA-256 over the bytes of the image files

    @property
    def keys(self) -> dict[str, bytes]:
        """Where its tensors are found: the cut of the target depends on the source, the tower sees the source only."""
        return {"latents": hashlib.sha256(self.source + self.target).digest(), "vision": self.source}


class SampleTable:
    """All samples of a cache; the last one written for an id counts. Pickled as its path.

    Args:
        cache: Folder of the cache.
    """

    def __init__(self, cache: Path) -> None:
        self.folder = cache / FOLDER
        self._load()

    def __len__(self) -> int:
        """Number of rows, outdated ones included."""
        return len(self._table)

    def row_of(self, sample_id: str) -> int | None:
        """Row of the latest sample of an id, or None."""
        place = np.uint64(_place(sample_id))
        first, end = (int(np.searchsorted(self._places, place, side)) for side in ("left", "right"))
        for row in reversed(self._order[first:end].tolist()):  # rows of one id are in the order of writing
            if self._table["sample_id"][row].as_py() == sample_id:
                return int(row)
        return None

    def rows_of(self, sample_ids: Sequence[str]) -> np.ndarray:
        """Rows of the latest samples of many ids, -1 where there is none."""
        places = np.array([_place(sample_id) for sample_id in sample_ids], np.uint64)
        if not len(self) or not len(places):
            return np.full(len(places), -1)
        # Rows of equal ids are in the order of writing, so the last one counts.
        found = self._order[np.searchsorted(self._places, places, "right") - 1]
        ids = self._table["sample_id"].take(pa.array(found)).to_pylist()
        differs = np.array([mine != theirs for mine, theirs in zip(sample_ids, ids, strict=True)])
        for index in np.flatnonzero(differs).tolist():
            row = self.row_of(sample_ids[index])
            found[index] = -1 if row is None else row
        return found

    def at(self, row: int) -> Sample:
        """The sample in a row."""
        values: dict[str, Any] = self._table.slice(row, 1).to_pylist()[0]
        values.pop("place")
        return Sample(**values)

    def find(self, sample_id: str) -> Sample | None:
        """The latest sample of an id, or None."""
        row = self.row_of(sample_id)
        return None if row is None else self.at(row)

    def append(self, samples: Sequence[Sample]) -> None:
        """Write samples into a new file."""
        rows = [
            {name: getattr(sample, name) for name in _SCHEMA.names if name != "place"}
            | {"place": _place(sample.sample_id)}
            for sample in samples
        ]
        table = pa.Table.from_pylist(rows, schema=_SCHEMA)

        def write(path: Path) -> None:
            with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, _SCHEMA) as writer:
                writer.write_table(table)

        write_numbered(self.folder, SUFFIX, write)
        self._load()

    def _load(self) -> None:
        tables = [pa.ipc.open_file(pa.memory_map(str(path))).read_all() for path in numbered_files(self.folder)]
        self._table: pa.Table = pa.concat_tables([_SCHEMA.empty_table(), *tables])
        places = self._table["place"].to_numpy()
        self._order = np.argsort(places, kind="stable")
        self._places = places[self._order]

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        self._load()


def describe(example: EditExample, files: Sequence[Path] = ()) -> Sample:
    """What identifies the images of an opened example.

    Args:
        example: With a target.
        files: That its images were read from.

    Returns:
        To be stored, or compared with what was stored.
    """
    assert example.target is not None
    stamps, content = (stamps_of(files), content_hash(*files)) if files else ("", "")
    return Sample(example.sample_id, pixel_digest(example.source), pixel_digest(example.target), stamps, content)


def stamps_of(files: Sequence[Path]) -> str:
    """Stamps of files as one text."""
    return ", ".join(map(stamp, files))


def is_untouched(sample: Sample, files: Sequence[Path]) -> bool:
    """Whether files are those of a sample: nobody wrote to them, or the bytes are the same.

    Args:
        sample: As stored.
        files: That the reader has for it now.

    Returns:
        False where files are missing, too: opening them will tell.
    """
    if not files or not sample.stamps:
        return False
    try:
        return stamps_of(files) == sample.stamps or content_hash(*files) == sample.content
    except OSError:
        return False


def pixel_digest(image: Image.Image) -> bytes:
    """SHA-256 over mode, size and pixels of an image."""
    digest = hashlib.sha256(f"{image.mode} {image.size}\n".encode())
    digest.update(image.tobytes())
    return digest.digest()


def _place(sample_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(sample_id.encode(), digest_size=8).digest(), "little")
