"""Cached tensors by the hash of what they were made from, in memory-mapped shards."""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from mgie_lit.data.cache.files import numbered_files, write_numbered

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mgie_lit.data.cache.recipe import Recipe

KEY_BYTES = 32
RECIPE_FILE = "recipe.json"
SUFFIX = ".safetensors"
_KEY = "key"
_OPEN_FILES = 256  # mapped at once by a process


class ValueStore:
    """The tensors of one kind and recipe: a folder of shards.

    Pickled as its path; each process maps the files by itself and shares their pages with the others.

    Args:
        folder: Of the store, ``<cache>/<kind>-<digest>``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._load()

    @classmethod
    def create(cls, cache: Path, recipe: Recipe) -> ValueStore:
        """The store of a recipe, with its facts written beside it for people and messages."""
        folder = store_folder(cache, recipe)
        folder.mkdir(parents=True, exist_ok=True)
        note = folder / RECIPE_FILE
        if not note.exists():
            draft = note.with_name(".draft-recipe.json")
            draft.write_text(json.dumps(dict(recipe.facts), indent=2), encoding="utf-8")
            draft.replace(note)
        return cls(folder)

    def __len__(self) -> int:
        """Number of entries."""
        return len(self._prefixes)

    def __contains__(self, key: bytes) -> bool:
        return self._find(key) is not None

    def read(self, key: bytes) -> dict[str, Tensor]:
        """Tensors of an entry, without the axis of the batch.

        Args:
            key: 32 bytes.

        Returns:
            Copies, so that no file has to stay open for them.

        Raises:
            KeyError: There is no such entry.
        """
        place = self._find(key)
        if place is None:
            raise KeyError(key.hex())
        shard, row = self._shards[place], int(self._rows[place])
        file = _opened(self._files[shard])
        return {name: file.get_slice(name)[row] for name in file.keys() if name != _KEY}  # noqa: SIM118

    def append(self, keys: Sequence[bytes], values: Mapping[str, Tensor]) -> None:
        """Write a shard.

        Args:
            keys: Of the entries, in order.
            values: Name -> tensor with an axis of entries in front.
        """
        table = torch.frombuffer(bytearray(b"".join(keys)), dtype=torch.uint8).reshape(len(keys), KEY_BYTES)
        tensors = {_KEY: table, **{name: value.contiguous() for name, value in values.items()}}
        write_numbered(self.folder, SUFFIX, lambda path: save_file(tensors, path))
        self._load()

    def _load(self) -> None:
        self._files = numbered_files(self.folder)
        tables = [_opened(path).get_tensor(_KEY).numpy() for path in self._files]
        keys = np.concatenate([np.zeros((0, KEY_BYTES), np.uint8), *tables])
        prefixes = keys[:, :8].copy().view(np.uint64).ravel()
        order = np.argsort(prefixes, kind="stable")
        self._prefixes, self._keys = prefixes[order], keys[order]
        self._shards = np.repeat(np.arange(len(tables)), [len(table) for table in tables])[order]
        self._rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(len(table)) for table in tables)])[order]

    def _find(self, key: bytes) -> int | None:
        """Place in the sorted keys."""
        prefix = np.frombuffer(key[:8], np.uint64)[0]
        first, end = (int(np.searchsorted(self._prefixes, prefix, side)) for side in ("left", "right"))
        for place in range(first, end):
            if self._keys[place].tobytes() == key:
                return place
        return None

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.folder = state["folder"]
        self._load()


def store_folder(cache: Path, recipe: Recipe) -> Path:
    """Where the tensors of a recipe lie."""
    return cache / f"{recipe.kind}-{recipe.digest}"


def other_recipes(cache: Path, kind: str) -> list[dict[str, str]]:
    """Facts of all stores of a kind that hold something."""
    notes = sorted(cache.glob(f"{kind}-*/{RECIPE_FILE}"))
    return [json.loads(note.read_text(encoding="utf-8")) for note in notes if numbered_files(note.parent)]


@lru_cache(maxsize=_OPEN_FILES)
def _opened(path: Path) -> Any:  # noqa: ANN401
    return safe_open(path, framework="pt")
