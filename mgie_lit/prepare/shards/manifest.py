"""What a folder of shards says about itself: from which settings it was begun, and what it holds when it is done."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from mgie_lit.data.readers import SPLITS
from mgie_lit.data.readers.index import DRAFT, MappedTable, write_table
from mgie_lit.data.readers.rows import SCHEMA, check_ids, concat
from mgie_lit.data.readers.shards import INDEX, MANIFEST
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.shards.tar_file import PARTS, facts_of, finished_shards, rows_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mgie_lit.data.readers import EditDataset

SETTINGS, LOCK, CHECKSUMS = "settings.json", "writing.lock", "checksums.sha256"


def check_settings(folder: Path, settings: dict[str, Any]) -> None:
    """Note them, or compare them with what a stopped run noted."""
    path = folder / PARTS / SETTINGS
    if not path.is_file():
        others = [entry.name for entry in _entries(folder)]
        if others:
            raise ConfigError(
                f"shards.path: expected an empty folder, or one that this command was writing, got {folder} with "
                f"{others[0]}; give another one"
            )
        path.parent.mkdir(exist_ok=True)
        _write_text(path, json.dumps(settings, indent=2))
        return
    noted = json.loads(path.read_text(encoding="utf-8"))
    differs = [key for key in {**noted, **settings} if noted.get(key) != settings.get(key)]
    if differs:
        key = differs[0]
        raise ConfigError(
            f"shards.path: {folder} was begun with {key} = {noted.get(key)}, now it is {settings.get(key)}; use the "
            "same settings and data, or give another folder"
        )


def digests_of(datasets: Mapping[str, EditDataset]) -> dict[str, str]:
    """Split -> hash of the ids of its examples, in order."""
    digests: dict[str, str] = {}
    for split, dataset in datasets.items():
        digest = hashlib.sha256()
        for index in range(len(dataset)):
            digest.update(f"{dataset.sample_id(index)}\n".encode())
        digests[split] = digest.hexdigest()
    return digests


def same_splits(datasets: Mapping[str, EditDataset]) -> dict[str, str]:
    """Split -> the first split with the same examples."""
    same: dict[str, str] = {}
    first_with: dict[str, str] = {}
    for split, digest in digests_of(datasets).items():
        same[split] = first_with.setdefault(digest, split)
    seen: dict[str, str] = {}
    for split in first_with.values():
        for index in range(len(datasets[split])):
            name = datasets[split].sample_id(index)
            if seen.setdefault(name, split) != split:
                raise DataError(
                    f"shards.splits: expected splits without common examples, or equal ones, got {name!r} in "
                    f"{seen[name]} and in {split}; give shards.splits=[{split}] and a folder of its own"
                )
    return same


def write_index(folder: Path, same: Mapping[str, str]) -> None:
    """One table of all rows, and the sizes and checksums of all shards; what tells that the work is done."""
    names = {split: finished_shards(folder, split) for split in dict.fromkeys(same.values())}
    tables = {
        split: concat([MappedTable.open(rows_path(folder, name)).table.replace_schema_metadata() for name in some])
        for split, some in names.items()
    }
    borders: dict[str, str] = {}
    first = 0
    for split, table in tables.items():
        borders[split] = f"{first}:{first + len(table)}"
        first += len(table)
    ranges = {split: borders.get(same.get(split, ""), "0:0") for split in SPLITS}
    check_ids(concat(list(tables.values())), "shards")
    write_table(tables.values(), SCHEMA.with_metadata(ranges), folder / INDEX)
    facts = {name: facts_of(rows_path(folder, name)) for some in names.values() for name in some}
    lines = "".join(f"{fact['sha256']}  {name}\n" for name, fact in facts.items())
    _write_text(folder / CHECKSUMS, lines)
    shards = {name: {"bytes": int(fact["bytes"]), "sha256": fact["sha256"]} for name, fact in facts.items()}
    _write_text(folder / MANIFEST, json.dumps({"splits": ranges, "shards": shards}, indent=2))


def _entries(folder: Path) -> Iterator[Path]:
    return (entry for entry in sorted(folder.iterdir()) if entry.name not in {PARTS, LOCK})


def _write_text(path: Path, text: str) -> None:
    draft = path.with_name(f"{DRAFT}{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
