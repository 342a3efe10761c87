"""GIER, grounded image editing requests (Shi et al., ACCV 2020), as annotated in T2ONet's splits."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mgie_lit.data.readers.annotations import read_json, read_list, split_files, text_of, texts_of
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.index import MappedTable, Part, in_memory
from mgie_lit.data.readers.masks import decode_run_lengths
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

ANNOTATIONS = {"train": "train_sess_3.json", "val": "val_sess_3.json", "test": "test_sess_3.json"}
WRITERS = ("expert", "amateur")


class GIER(FileReader):
    """Edits asked for on the web, summarised by experts and amateurs; each summary is an example.

    ``attributes`` hold ``writer`` (``expert`` or ``amateur``), ``scope`` (``global``, ``local``, or ``mixed`` where the
    edit has operators of both kinds) and ``operators``, the owners' names joined by ``+`` (``gaussain_blur`` is how
    they spell it). The mask joins the regions of all operators; an edit that is not wholly local has none. Source and
    target may differ in size. Examples of one photograph share their ``session_id``.
    """

    name = "gier"

    def load(self) -> MappedTable:
        """Read the annotations of all splits that are there."""
        folders = [self.root / "splits", self.root]
        files = split_files(self.root, folders, ANNOTATIONS, needed=self.split, option=self.folder, anchor=self.name)
        self._mask_dir = self.root / "masks"
        has_masks = self._mask_dir.is_dir()
        parts = [Part(split, partial(_rows, file, has_masks)) for split, file in files.items()]
        return in_memory(parts, self.folder)

    def open_images(self, row: Row) -> tuple[Image.Image, Image.Image | None, Image.Image | None]:
        """Source, target and the joined regions of a local edit.

        Args:
            row: Of this data set.

        Returns:
            RGB, RGB and L at the source's size.

        Raises:
            DataError: A file is missing or damaged.
        """
        source, target, _ = super().open_images(replace(row, mask=None))
        return source, target, None if row.mask is None else _open_regions(self._mask_dir, row.mask, source.size)


def _rows(file: Path, has_masks: bool) -> Iterator[Row]:
    for index, entry in enumerate(read_list(file)):
        where = f"{file.name}, row {index}"
        source, target = text_of(entry, "input", where), text_of(entry, "output", where)
        scope, regions, operators = _operators(entry, where)
        stem = PurePosixPath(source).stem
        for writer in WRITERS:
            for number, summary in enumerate(texts_of(entry, f"{writer}_summary", where)):
                yield Row(
                    sample_id=f"{PurePosixPath(target).stem}-{writer}{number}",
                    instruction=summary,
                    source=source,
                    target=target,
                    mask=f"{stem}_mask.json:{regions}" if has_masks and regions else None,
                    session_id=stem,
                    attributes={"writer": writer, "scope": scope, "operators": operators},
                    origin=where,
                )


def _operators(entry: dict[str, Any], where: str) -> tuple[str, str, str]:
    """Scope of an edit, numbers of its regions (empty unless the whole edit is local), and its operators' names."""
    operators = entry.get("operator") or {}
    if not isinstance(operators, dict) or not all(isinstance(use, dict) for use in operators.values()):
        raise DataError(
            f"{where}: expected an object of operators under 'operator', got {operators!r}; repair this row"
        )
    # A local operator without regions says nothing about where it acts.
    is_local = [bool(use.get("local")) and bool(use.get("ids")) for use in operators.values()]
    names = "+".join(sorted(operators))
    if not is_local or not all(is_local):
        return ("mixed" if any(is_local) else "global"), "", names
    regions = sorted({int(number) for use in operators.values() for number in use["ids"]})
    return "local", ",".join(map(str, regions)), names


def _open_regions(folder: Path, mask: str, size: tuple[int, int]) -> Image.Image:
    """``<file>:<numbers>`` as a mask of 0 and 255 at ``size`` (width, height)."""
    name, _, numbers = mask.rpartition(":")
    path = folder / name
    candidates = read_json(path)
    chosen = [int(number) for number in numbers.split(",")]
    if not isinstance(candidates, list) or max(chosen) >= len(candidates):
        raise DataError(f"{path}: expected at least {max(chosen) + 1} masks; the file is damaged: download it again")
    joined = np.zeros((size[1], size[0]), bool)
    for number in chosen:
        region = Image.fromarray(decode_run_lengths(candidates[number], f"{path}, mask {number}"))
        joined |= np.asarray(region.resize(size, Image.Resampling.NEAREST))
    return Image.fromarray(np.where(joined, 255, 0).astype(np.uint8))
