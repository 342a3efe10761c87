"""Writing a data set as tar shards in WebDataset's layout, with an index of the places of all members."""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import tarfile
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from mgie_lit.data.readers import SPLITS
from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.index import MappedTable, write_table
from mgie_lit.data.readers.rows import SCHEMA, Row, check_ids, concat, make_table
from mgie_lit.data.readers.shards import INDEX, MANIFEST, place_of
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from PIL import Image

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.types import EditExample

LOG = logging.getLogger(__name__)

PARTS, SETTINGS, LOCK, CHECKSUMS = ".parts", "settings.json", "writing.lock", "checksums.sha256"
_DRAFT = ".draft-"
_BLOCK = 512  # bytes; members of a tar file begin and end at multiples of it
_HASH_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class Packed:
    """An example on its way into a shard."""

    row: Row  # its places are not known yet
    members: tuple[tuple[str, str, bytes], ...]  # field of the row ("" = none), suffix, content


class _Packing(Dataset[Packed]):
    """Examples from a position on, opened and encoded; runs in loader processes."""

    def __init__(self, dataset: EditDataset, first: int) -> None:
        self.dataset, self.first = dataset, first

    def __len__(self) -> int:
        return len(self.dataset) - self.first

    def __getitem__(self, index: int) -> Packed:
        return pack(self.dataset, self.first + index)


class _Shard:
    """A tar file that is being written, and the rows of its examples."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.rows: list[Row] = []
        self._draft = folder / f"{_DRAFT}{name}"
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
        write_table([table], SCHEMA.with_metadata(facts), _part(self.folder, self.name))


def write_shards(
    folder: Path,
    datasets: Mapping[str, EditDataset],
    settings: Mapping[str, Any],
    *,
    max_bytes: int,
    num_workers: int = 0,
    verify: bool = False,
) -> dict[str, int]:
    """Write data sets as shards; what a stopped run has finished is kept.

    Args:
        folder: Is made where it is missing.
        datasets: By split. Splits that are the same examples are written once.
        settings: Plain values that decide on the content; a stopped run goes on only with the same ones.
        max_bytes: Of a shard; an example that is larger alone gets one of its own.
        num_workers: Loader processes.
        verify: Read finished shards again; damaged ones are written anew.

    Returns:
        Number of examples by split.

    Raises:
        ConfigError: The folder holds other data.
        DataError: Another process writes there, an image can not be opened, or splits share some of their ids.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        lock = FileLock(folder / LOCK).acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"shards.path: another process writes to {folder}; wait for it, or give another folder"
        ) from error
    with lock:
        same = _same_splits(datasets)
        noted = {**settings, "shards.max_bytes": max_bytes, "ids": _digests(datasets)}
        _check_settings(folder, json.loads(json.dumps(noted)))
        for draft in folder.glob(f"{_DRAFT}*"):
            draft.unlink()
        if verify:
            _drop_damaged(folder)
        for split in dict.fromkeys(same.values()):
            _write_split(folder, split, datasets[split], max_bytes, num_workers)
        _write_index(folder, same)
    return {split: len(dataset) for split, dataset in datasets.items()}


def pack(dataset: EditDataset, index: int) -> Packed:
    """One example as the members of a shard.

    Args:
        dataset: Any reader.
        index: Of the example.

    Returns:
        Images as they lie on disk where they are files of their own, else as PNG; the mask as PNG.

    Raises:
        DataError: An image can not be opened.
    """
    example = dataset[index]
    row = Row(
        sample_id=example.sample_id,
        instruction=example.instruction,
        source="",
        expressive_instruction=example.expressive_instruction,
        caption=example.caption,
        turn=example.turn,
        session_id=example.session_id,
        attributes=example.attributes,
    )
    source, target = _files(dataset, index)
    members = [("source", *_encoded("source", example.source, source))]
    if example.target is not None:
        members.append(("target", *_encoded("target", example.target, target)))
    if example.mask is not None:
        members.append(("mask", "mask.png", _png(example.mask)))
    members.append(("", "json", json.dumps(_texts(example), ensure_ascii=False).encode()))
    return Packed(row, tuple(members))


def key_of(sample_id: str) -> str:
    """The name of an example in a shard: readers of such files take all after its first dot for a suffix.

    >>> key_of("7000-1.2")
    '7000-1%2E2'
    """
    return sample_id.replace("%", "%25").replace(".", "%2E")


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as ``sha256sum`` prints it."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()


def _files(dataset: EditDataset, index: int) -> tuple[Path | None, Path | None]:
    """Files of source and target, where the reader has them."""
    if not isinstance(dataset, FileReader):
        return None, None
    row = dataset.row(index)
    paths = [None if name is None else dataset.image_dir / name for name in (row.source, row.target)]
    # Numbers of rows and bytes have no suffix: those images do not lie in files of their own.
    source, target = (path if path is not None and path.suffix and path.is_file() else None for path in paths)
    return source, target


def _encoded(what: str, image: Image.Image, file: Path | None) -> tuple[str, bytes]:
    if file is None:
        return f"{what}.png", _png(image)
    return f"{what}{file.suffix.lower()}", file.read_bytes()


def _member(key: str, suffix: str, content: bytes) -> tarfile.TarInfo:
    """Without times and owners, so that the same data give the same bytes."""
    member = tarfile.TarInfo(f"{key}.{suffix}")
    member.size = len(content)
    return member


def _padded(size: int, unit: int) -> int:
    return -(-size // unit) * unit


def _png(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def _texts(example: EditExample) -> dict[str, Any]:
    return {
        "id": example.sample_id,
        "instruction": example.instruction,
        "expressive_instruction": example.expressive_instruction,
        "caption": example.caption,
        "turn": example.turn,
        "session": example.session_id,
        "attributes": dict(example.attributes),
    }


def _write_split(folder: Path, split: str, dataset: EditDataset, max_bytes: int, num_workers: int) -> None:
    done = _finished(folder, split)
    first = sum(len(MappedTable.open(_part(folder, name)).table) for name in done)
    if first:
        LOG.info("shards.path: %d of %d %s examples are there", first, len(dataset), split)
    if first == len(dataset):
        return
    loader = DataLoader(_Packing(dataset, first), batch_size=None, num_workers=num_workers)
    for part in (folder / PARTS).glob(f"{split}-*.arrow"):  # after a gap: may be of another run's cut
        if f"{part.stem}.tar" not in done:
            part.unlink()
    names = (f"{split}-{number:06d}.tar" for number in range(len(done), 10**6))
    shard = None
    for packed in track(loader, f"writing {split}", console=Console(stderr=True), transient=True):
        if shard is not None and shard.bytes_with(packed) > max_bytes:
            shard.finish()
            shard = None
        shard = shard or _Shard(folder, next(names))
        shard.add(packed)
    if shard is not None:
        shard.finish()


def _finished(folder: Path, split: str) -> list[str]:
    """Names of the shards that are whole, up to the first gap."""
    names: list[str] = []
    while True:
        name = f"{split}-{len(names):06d}.tar"
        part, path = _part(folder, name), folder / name
        if not part.is_file() or not path.is_file() or path.stat().st_size != int(_facts(part)["bytes"]):
            return names
        names.append(name)


def _drop_damaged(folder: Path) -> None:
    for part in sorted((folder / PARTS).glob("*.arrow")):
        path = folder / f"{part.stem}.tar"
        if path.is_file() and file_hash(path) != _facts(part)["sha256"]:
            LOG.warning("shards.path: %s is damaged; it and those after it are made again", path)
            path.unlink()


def _write_index(folder: Path, same: Mapping[str, str]) -> None:
    """One table of all rows, and the sizes and checksums of all shards; what tells that the work is done."""
    names = {split: _finished(folder, split) for split in dict.fromkeys(same.values())}
    tables = {
        split: concat([MappedTable.open(_part(folder, name)).table.replace_schema_metadata() for name in some])
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
    facts = {name: _facts(_part(folder, name)) for some in names.values() for name in some}
    lines = "".join(f"{fact['sha256']}  {name}\n" for name, fact in facts.items())
    _write_text(folder / CHECKSUMS, lines)
    shards = {name: {"bytes": int(fact["bytes"]), "sha256": fact["sha256"]} for name, fact in facts.items()}
    _write_text(folder / MANIFEST, json.dumps({"splits": ranges, "shards": shards}, indent=2))


def _same_splits(datasets: Mapping[str, EditDataset]) -> dict[str, str]:
    """Split -> the first split with the same examples."""
    same: dict[str, str] = {}
    first_with: dict[str, str] = {}
    for split, digest in _digests(datasets).items():
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


def _digests(datasets: Mapping[str, EditDataset]) -> dict[str, str]:
    digests: dict[str, str] = {}
    for split, dataset in datasets.items():
        digest = hashlib.sha256()
        for index in range(len(dataset)):
            digest.update(f"{dataset.sample_id(index)}\n".encode())
        digests[split] = digest.hexdigest()
    return digests


def _check_settings(folder: Path, settings: dict[str, Any]) -> None:
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


def _entries(folder: Path) -> Iterator[Path]:
    return (entry for entry in sorted(folder.iterdir()) if entry.name not in {PARTS, LOCK})


def _part(folder: Path, name: str) -> Path:
    return folder / PARTS / f"{name.removesuffix('.tar')}.arrow"


def _facts(part: Path) -> dict[str, str]:
    with pa.memory_map(str(part)) as file:
        metadata = pa.ipc.open_file(file).schema.metadata
    return {key.decode(): value.decode() for key, value in metadata.items()}


def _write_text(path: Path, text: str) -> None:
    draft = path.with_name(f"{_DRAFT}{path.name}")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)
