"""IPr2Pr as its authors publish it: a folder a prompt, with up to four pairs of JPEG files."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

from mgie_lit.data.readers.annotations import optional_text, read_json, source_caption, text_of
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

SEEDS = "seeds.json"
PROMPT = "prompt.json"
_SOURCE_NAME = re.compile(r"(.+)_0\.jpg")
_NUM_READERS = 8  # threads; reading small files waits for the disk

Prompt = tuple[str, "Sequence[str] | None"]  # name of its folder, and its seeds; None = those that lie in it


def seed_prompts(file: Path) -> list[Prompt]:
    """Prompts in the order of ``seeds.json``.

    Args:
        file: The file: ``[[name, [seed, ...]], ...]``.

    Returns:
        Name and seeds of each prompt.

    Raises:
        DataError: The file is faulty.
    """
    content = read_json(file)
    prompts: list[Prompt] = []
    for index, entry in enumerate(content if isinstance(content, list) else [content]):
        if not (isinstance(entry, list) and len(entry) == 2 and isinstance(entry[1], list)):
            raise DataError(
                f"{file}, row {index}: expected [name, [seed, ...]], got {str(entry)[:80]}; repair this row"
            )
        prompts.append((str(entry[0]), [str(seed) for seed in entry[1]]))
    return prompts


def prompt_folders(root: Path) -> list[str]:
    """Names of the prompts' folders where there is no ``seeds.json``, sorted; none if this is another layout.

    Args:
        root: Folder of the data; it is listed once, its sub-folders are not.

    Returns:
        All sub-folders but hidden ones, if the first of them holds a ``prompt.json``.
    """
    if not root.is_dir():
        return []
    with os.scandir(root) as entries:
        names = sorted(entry.name for entry in entries if not entry.name.startswith(".") and entry.is_dir())
    return names if names and (root / names[0] / PROMPT).is_file() else []


def prompt_rows(root: Path, prompts: Sequence[Prompt]) -> Iterator[Row]:
    """Rows of some prompts, in order; their ``prompt.json`` are read, no image is looked for.

    Args:
        root: Folder of the data.
        prompts: Names and seeds; None for the seeds means those that lie in the folder.

    Yields:
        A row a pair, seeds in the order of ``seeds.json``, or by number; :func:`with_paths` adds what its id tells.

    Raises:
        DataError: A ``prompt.json`` is missing or faulty.
    """
    with ThreadPoolExecutor(_NUM_READERS) as pool:
        for rows in pool.map(lambda prompt: _rows(root, prompt), prompts):
            yield from rows


def with_paths(row: Row) -> Row:
    """The row with its paths and session, which a million rows need not store."""
    name, _, seed = row.sample_id.rpartition("_")
    paths = (f"{name}/{seed}_0.jpg", f"{name}/{seed}_1.jpg")
    return replace(row, source=paths[0], target=paths[1], session_id=name, origin=f"{name}/{PROMPT}")


def _rows(root: Path, prompt: Prompt) -> list[Row]:
    name, seeds = prompt
    file = root / name / PROMPT
    if not file.is_file():
        raise DataError(f"{file}: expected the words of this prompt, got nothing; copy or unpack it again")
    content = read_json(file)
    if not isinstance(content, dict):
        raise DataError(f"{file}: expected an object with `edit`, got a {type(content).__name__}; copy it again")
    instruction = text_of(content, "edit", str(file))
    caption, attributes = optional_text(content, "output"), source_caption(content, "input", "caption")
    return [
        Row(f"{name}_{seed}", instruction, source="", caption=caption, attributes=attributes)
        for seed in (_seeds_in(root / name) if seeds is None else seeds)
    ]


def _seeds_in(folder: Path) -> list[str]:
    found = (_SOURCE_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted((match[1] for match in found if match), key=lambda seed: (len(seed), seed))
