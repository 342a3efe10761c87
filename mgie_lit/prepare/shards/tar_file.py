"""One tar shard: written whole or not at all, with the rows of its examples beside it."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa

from mgie_lit.data.readers.index import DRAFT, write_table
from mgie_lit.data.readers.rows import SCHEMA, Row, make_table
from mgie_lit.data.readers.shards import place_of
from mgie_lit.prepare.shards.packing import key_of

if TYPE_CHECKING:
    from pathlib import Path

    from mgie_lit.prepare.shards.packing import Packed

PARTS = ".parts"  # folder of the rows
_BLOCK = 512  # bytes; members of a tar file begin and end at multiples of it


class TarShard:
    """A tar file that is being written, and the rows of its examples."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.rows: list[Row] = []
        self._draft = folder / f"{DRAFT}{name}"
        self._tar = tarfile.open(self._draft, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - closed in `finish`

    def bytes_with(self, packed: Packed) -> int:
        """Size of the closed file if it takes this example, too."""
        key = key_of(packed.row.sample_id)
        headers = sum(
            len(_member(key, suffix, content).tobuf(tarfile.PAX_FORMAT)) for _, suffix, content in packed.members
        )
        contents = sum(_padded(len(content), _BLOCK) for *_, content in packed.members)
        return _padded(self._tar.offset + headers + contents + 2 * _BLOCK, tarfile.RECORDSIZE)

    def add(self, packed: Packed) -> None:
        """Append an example, and note where its images lie."""
        key = key_of(packed.row.sample_id)
        places: dict[str, str] = {}
        for field, suffix, content in packed.members:
            self._tar.addfile(_member(key, suffix, content), io.BytesIO(content))
            begin = self._tar.offset - _padded(len(content), _BLOCK)
            if field:
                places[field] = place_of(self.name, begin, len(content))
        self.rows.append(replace(packed.row, origin=f"{self.name}, {key}", **places))  # type: ignore[arg-type]

    def finish(self) -> None:
        """The shard appears first; only a shard with its rows beside it counts."""
        self._tar.close()
        with self._draft.open("rb+") as file:
            os.fsync(file.fileno())
        facts = {"bytes": str(self._draft.stat().st_size), "sha256": file_hash(self._draft)}
        self._draft.replace(self.folder / self.name)
        table = make_table(self.rows)
        write_table([table], SCHEMA.with_metadata(facts), rows_path(self.folder, self.name))


def finished_shards(folder: Path, split: str) -> list[str]:
    """Names of the shards that are whole, up to the first gap."""
    names: list[str] = []
    while True:
        name = f"{split}-{len(names):06d}.tar"
        path, facts = folder / name, facts_of(rows_path(folder, name))
        if not path.is_file() or facts.get("bytes") != str(path.stat().st_size):
            return names
        names.append(name)


def rows_path(folder: Path, name: str) -> Path:
    """Where the rows of a shard lie; they are there only when the shard is whole."""
    return folder / PARTS / f"{name.removesuffix('.tar')}.arrow"


def facts_of(rows: Path) -> dict[str, str]:
    """``bytes`` and ``sha256`` of a shard, from the file of its rows; none where that is missing or damaged."""
    if not rows.is_file():
        return {}
    try:
        with pa.memory_map(str(rows)) as file:
            metadata = pa.ipc.open_file(file).schema.metadata or {}
    except (OSError, pa.ArrowInvalid):
        return {}
    return {key.decode(): value.decode() for key, value in metadata.items()}


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` prints it."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _member(key: str, suffix: str, content: bytes) -> tarfile.TarInfo:
    """Without times and owners, so that the same data give the same bytes."""
    member = tarfile.TarInfo(f"{key}.{suffix}")
    member.size = len(content)
    return member


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit
