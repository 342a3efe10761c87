"""One example as the members of a tar shard."""

from __future__ import annotations

import io
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.rows import Row

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.types import EditExample


@dataclass(frozen=True, slots=True)
class Packed:
    """An example on its way into a shard."""

    row: Row  # its places are not known yet
    members: tuple[tuple[str, str, bytes], ...]  # field of the row ("" = none), suffix, content


class PackedFrom(Dataset[Packed]):
    """Examples from a position on, opened and encoded; runs in loader processes."""

    def __init__(self, dataset: EditDataset, first: int) -> None:
        self.dataset, self.first = dataset, first

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.dataset) - self.first

    def __getitem__(self, index: int) -> Packed:
        """The example so far behind the first one."""
        return pack(self.dataset, self.first + index)


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
