from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.testing.datasets import write_imagefolder

LIMIT = 20480  # bytes of a shard: three of the pairs


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_imagefolder(tmp_path / "pairs", is_divided=True, num_examples=7)
    return tmp_path / "pairs"


@pytest.fixture
def write(pairs: Path) -> Callable[..., dict[str, int]]:
    """Writes the pairs as shards into a folder."""

    def write_to(folder: Path, **kwargs: Any) -> dict[str, int]:  # noqa: ANN401
        datasets = {split: ImageFolder(split, root=pairs) for split in ("train", "val")}
        return write_shards(folder, datasets, {}, **{"max_bytes": LIMIT} | kwargs)

    return write_to
