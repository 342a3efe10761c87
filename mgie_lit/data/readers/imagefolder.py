"""Anybody's own pairs: a folder of images and a file of JSON lines that describes them."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mgie_lit.data.readers import SPLITS
from mgie_lit.data.readers.annotations import content_hash, no_layout, optional_text, read_lines, text_of
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.index import UNDIVIDED, MappedTable, Part, in_memory, index_path, stored
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

METADATA = "metadata.jsonl"
STORED_FROM = 2**25  # bytes of metadata; smaller files are read at every start
_KNOWN = {
    *("id", "instruction", "expressive_instruction", "caption", "turn", "session_id", "split"),
    *("source_file_name", "target_file_name", "mask_file_name"),
}


class ImageFolder(FileReader):
    """``metadata.jsonl`` with an example a line; paths are relative to it.

    Keys: ``source_file_name``, ``instruction``, and optionally ``target_file_name``, ``id`` (else the source's stem),
    ``expressive_instruction``, ``caption``, ``mask_file_name``, ``session_id``, ``turn``, ``split``; texts under other
    keys become ``attributes``. The file lies in each of the sub-folders ``train``, ``val`` and ``test``, or there is
    one in the folder itself. Its rows name their ``split``; if none does, every split holds all rows.
    """

    name = "imagefolder"

    def load(self) -> MappedTable:
        """Read the metadata of all splits that are there; from an index if they are long."""
        self.image_dir = self.root
        files = {split: file for split in SPLITS if (file := self.root / split / METADATA).is_file()}
        if (self.root / METADATA).is_file():
            files = {UNDIVIDED: self.root / METADATA}
        elif self.split not in files:
            expected = f"{METADATA} or {self.split}/{METADATA}"
            raise no_layout(self.folder, self.root, expected, self.name, [METADATA])
        if sum(file.stat().st_size for file in files.values()) < STORED_FROM:
            return in_memory(_parts(files), self.folder)
        path = index_path(self.name, f"{list(files)} {content_hash(*files.values())}", self.root, self.index_dir)
        return stored(lambda: _parts(files), path, option=self.folder, what=self.name)


def _parts(files: dict[str, Path]) -> list[Part]:
    if UNDIVIDED not in files:
        return [Part(split, partial(_rows, file, f"{split}/")) for split, file in files.items()]
    file = files[UNDIVIDED]
    named = {entry.get("split") for _, entry in read_lines(file)}
    if named <= {None}:
        return [Part(UNDIVIDED, partial(_rows, file))]
    if not named <= set(SPLITS):
        odd = ", ".join(sorted(map(repr, named - set(SPLITS))))
        raise DataError(f"{file}: expected a `split` of {', '.join(SPLITS)} in every row, got {odd}; repair these rows")
    return [Part(split, partial(_rows, file, split=split)) for split in SPLITS]


def _rows(file: Path, folder: str = "", split: str | None = None) -> Iterator[Row]:
    """Rows of a file whose paths start in ``folder``; only those of one split, if one is given."""
    for number, entry in read_lines(file):
        if split is None or entry.get("split") == split:
            yield _row(entry, folder, f"{folder}{file.name}, line {number}")


def _row(entry: dict[str, Any], folder: str, where: str) -> Row:
    source = text_of(entry, "source_file_name", where)
    target, mask = optional_text(entry, "target_file_name"), optional_text(entry, "mask_file_name")
    turn = entry.get("turn", 1)
    if isinstance(turn, bool) or not isinstance(turn, int):
        raise DataError(f"{where}: expected a whole number under 'turn', got {turn!r}; repair or remove it")
    return Row(
        sample_id=optional_text(entry, "id") or PurePosixPath(source).stem,
        instruction=text_of(entry, "instruction", where),
        source=folder + source,
        target=target and folder + target,
        mask=mask and folder + mask,
        expressive_instruction=optional_text(entry, "expressive_instruction"),
        caption=optional_text(entry, "caption"),
        turn=turn,
        session_id=optional_text(entry, "session_id") or "",
        attributes={key: value for key, value in entry.items() if key not in _KNOWN and isinstance(value, str)},
        origin=where,
    )
