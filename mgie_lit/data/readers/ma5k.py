"""MA5k: retouched photographs of MIT-Adobe FiveK with a request each (FiveKReq; Shi et al., CVPR 2021)."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mgie_lit.data.readers.annotations import find_file, no_layout, read_list, text_of
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.index import MappedTable, Part, in_memory
from mgie_lit.data.readers.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALL = ("FiveK.json", "FiveK.json.gz")
HELD_OUT = {"val": ("val_sess_1.json", "val_sess_1.json.gz"), "test": ("test_sess_1.json", "test_sess_1.json.gz")}


class MA5k(FileReader):
    """Photographs retouched by five experts; training is what validation and test leave over.

    Examples of one photograph share their ``session_id``; ``attributes["expert"]`` is ``A`` to ``E``.
    """

    name = "ma5k"

    def load(self) -> MappedTable:
        """Read the list of all pairs and those of validation and test."""
        held_out = {split: list(_rows(self._file(names))) for split, names in HELD_OUT.items()}
        known = {row.sample_id for rows in held_out.values() for row in rows}
        train = [row for row in _rows(self._file(ALL)) if row.sample_id not in known]
        return in_memory([Part(split, rows.copy) for split, rows in ({"train": train} | held_out).items()], self.folder)

    def _file(self, names: tuple[str, ...]) -> Path:
        found = find_file([self.root, self.root / "annotations"], names)
        if found is None:
            raise no_layout(self.folder, self.root, names[0], self.name, names)
        return found


def _rows(file: Path) -> Iterator[Row]:
    for index, entry in enumerate(read_list(file)):
        yield _row(entry, f"{file.name}, row {index}")


def _row(entry: dict[str, Any], where: str) -> Row:
    source, target = text_of(entry, "input", where), text_of(entry, "output", where)
    source_stem, target_stem = PurePosixPath(source).stem, PurePosixPath(target).stem
    return Row(
        sample_id=f"{source_stem}__{target_stem}",
        instruction=text_of(entry, "request", where),
        source=source,
        target=target,
        session_id=source_stem,
        attributes={"expert": target_stem.rpartition("_")[2]},
        origin=where,
    )
