"""EVR, the Image Editing Request data set (Tan et al., ACL 2019, arXiv:1906.07689)."""

from __future__ import annotations

from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mgie_lit.data.readers.annotations import read_list, split_files, text_of, texts_of
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.index import MappedTable, Part, in_memory
from mgie_lit.data.readers.rows import Row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ANNOTATIONS = {"train": "train.json", "val": "valid.json", "test": "test.json"}


class EVR(FileReader):
    """Edits asked for on the web, described by workers: one sentence a pair in training, three in validation and test.

    Each sentence is an example. Examples of one photograph share their ``session_id``; ``attributes["site"]`` says
    where the pair comes from.
    """

    name = "evr"

    def load(self) -> MappedTable:
        """Read the annotations of all splits that are there."""
        files = split_files(
            self.root, [self.root], ANNOTATIONS, needed=self.split, option=self.folder, anchor=self.name
        )
        return in_memory([Part(split, partial(_rows, file)) for split, file in files.items()], self.folder)


def _rows(file: Path) -> Iterator[Row]:
    for index, entry in enumerate(read_list(file)):
        where = f"{file.name}, row {index}"
        uid, source = text_of(entry, "uid", where), text_of(entry, "img0", where)
        for number, sentence in enumerate(texts_of(entry, "sents", where)):
            yield Row(
                sample_id=f"{uid}-{number}",
                instruction=sentence,
                source=source,
                target=text_of(entry, "img1", where),
                session_id=PurePosixPath(source).stem,
                attributes={"site": uid.partition("_")[0]},
                origin=where,
            )
