"""Image features that are worked out once: in memory, and in a folder that evaluations share."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from PIL import Image
    from torch import Tensor

MEMORY_SIZE = 20_000  # feature vectors, at 768 floats each about 60 MB
_SUFFIX = ".f32"
_CHECKSUM_SIZE = 16  # bytes


class FeatureStore:
    """Feature vectors by the content of their image: no id can bring back the features of another picture.

    In the folder every vector is a file of its own, ``<encoder>/<first two digits>/<content>.f32``: a checksum and
    float32 numbers. Files appear whole under their name, so that any number of processes may share a folder; a file
    that does not fit its checksum is worked out again. The folder can be deleted at any time.

    Args:
        folder: Shared by evaluations; None = memory only.
        memory_size: Number of vectors kept in memory; the oldest go first.
    """

    def __init__(self, folder: str | Path | None = None, *, memory_size: int = MEMORY_SIZE) -> None:
        self.folder = None if folder is None else Path(folder).expanduser()
        self.memory_size = memory_size
        self._memory: dict[tuple[str, str], Tensor] = {}

    def get(self, keys: Iterable[str], encoder: str) -> dict[str, Tensor]:
        """Vectors that are known.

        Args:
            keys: From :func:`content_key`.
            encoder: From :func:`identity_key`.

        Returns:
            Key -> ``(D,)`` float32; keys that are not known are left out.
        """
        found: dict[str, Tensor] = {}
        for key in keys:
            vector = self._memory.get((encoder, key))
            if vector is None and self.folder is not None:
                vector = _read(self._path(key, encoder))
            if vector is not None:
                found[key] = vector
        self._remember(found, encoder)
        return found

    def put(self, vectors: Mapping[str, Tensor], encoder: str) -> None:
        """Keep vectors.

        Args:
            vectors: Key -> ``(D,)`` float32.
            encoder: From :func:`identity_key`.
        """
        self._remember(vectors, encoder)
        if self.folder is not None:
            for key, vector in vectors.items():
                _write(self._path(key, encoder), vector)

    def _remember(self, vectors: Mapping[str, Tensor], encoder: str) -> None:
        self._memory |= {(encoder, key): vector for key, vector in vectors.items()}
        while len(self._memory) > self.memory_size:
            self._memory.pop(next(iter(self._memory)))

    def _path(self, key: str, encoder: str) -> Path:
        assert self.folder is not None
        return self.folder / encoder / key[:2] / f"{key}{_SUFFIX}"


def content_key(image: Image.Image) -> str:
    """What an image's features are found by: a hash of its mode, size and pixels, as a file name."""
    header = f"{image.mode} {image.size}".encode()
    return hashlib.blake2b(header + image.tobytes(), digest_size=16).hexdigest()


def identity_key(identity: Mapping[str, object], device: str) -> str:
    """What the features of an encoder are found by: its identity but for the place where its files lie.

    Args:
        identity: From :meth:`ImageEncoder.identity`.
        device: Where it runs: a GPU rounds otherwise than a CPU.

    Returns:
        A hash, as a folder's name.
    """
    own = {key: value for key, value in identity.items() if key not in {"source", "commit"}}
    text = json.dumps(own | {"device": device.split(":")[0]}, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def content_keys(images: Sequence[Image.Image]) -> list[str]:
    """:func:`content_key` of each image."""
    return [content_key(image) for image in images]


def _read(path: Path) -> Tensor | None:
    try:
        content = path.read_bytes()
    except OSError:  # not there, or not to be read: then it is worked out
        return None
    checksum, data = content[:_CHECKSUM_SIZE], content[_CHECKSUM_SIZE:]
    if not data or len(data) % 4 or checksum != _checksum(data):
        return None
    return torch.from_numpy(np.frombuffer(data, dtype="<f4").astype(np.float32))


def _write(path: Path, vector: Tensor) -> None:
    data = vector.detach().cpu().numpy().astype("<f4").tobytes()
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{os.getpid()}-{uuid.uuid4().hex}{_SUFFIX}")
    try:
        draft.write_bytes(_checksum(data) + data)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _checksum(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=_CHECKSUM_SIZE).digest()
