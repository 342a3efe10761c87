"""Synthetic data of a user's own."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from mgie_lit.testing.datasets.pictures import (
    RESULTS,
    disc_mask,
    edited_picture,
    local_words,
    locally_edited,
    save,
    source_picture,
    words,
)

if TYPE_CHECKING:
    from pathlib import Path


def write_imagefolder(
    root: Path, *, num_examples: int = 8, is_divided: bool = False, has_expressive: bool = True
) -> list[dict[str, Any]]:
    """Pairs with a ``metadata.jsonl``; every third has a mask, every second an id of its own.

    Args:
        root: Folder to write.
        num_examples: In all, or in each of the folders ``train``, ``val`` and ``test``.
        is_divided: Whether there are these folders.
        has_expressive: Whether rows have an ``expressive_instruction``.

    Returns:
        The rows of the last metadata written.
    """
    rows: list[dict[str, Any]] = []
    for part, folder in enumerate([root / name for name in ("train", "val", "test")] if is_divided else [root]):
        rows = [_write_pair(folder, part * num_examples + index, has_expressive) for index in range(num_examples)]
        lines = "".join(f"{json.dumps(row)}\n" for row in rows)
        (folder / "metadata.jsonl").write_text(lines, encoding="utf-8")
    return rows


def _write_pair(folder: Path, number: int, has_expressive: bool) -> dict[str, Any]:
    source = source_picture(number)
    target = edited_picture(source, number)
    row: dict[str, Any] = {
        "source_file_name": f"sources/photo-{number:03d}.png",
        "target_file_name": f"targets/photo-{number:03d}.png",
        "instruction": words(number),
        "caption": f"an edited disc, number {number}",
        "kind": "even" if number % 2 == 0 else "odd",
    }
    if number % 2:
        row["id"] = f"pair-{number}"
    if has_expressive:
        row["expressive_instruction"] = RESULTS[number % len(RESULTS)]
    if number % 3 == 0:
        row["mask_file_name"] = f"masks/photo-{number:03d}.png"
        row["instruction"] = local_words(number)
        mask = disc_mask(number, source.size)
        target = locally_edited(source, number, mask)
        save(mask, folder / row["mask_file_name"])
    save(source, folder / row["source_file_name"])
    save(target, folder / row["target_file_name"])
    return row
