from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.types import EditExample


def photo(seed: int, size: tuple[int, int] = (48, 32)) -> Image.Image:
    """Large patches of random colours with a little noise: a look of its own for each seed, at any size."""
    rng = np.random.default_rng(seed)
    patches = Image.fromarray(rng.integers(0, 256, (6, 9, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    return Image.fromarray(np.asarray(patches) // 2 + rng.integers(0, 3, (size[1], size[0], 3), dtype=np.uint8))


@pytest.fixture
def row() -> Callable[..., EditExample]:
    """Makes a good example; numbers give different ones."""

    def make(number: int = 0, **changes: object) -> EditExample:
        values = {
            "sample_id": f"row-{number}",
            "source": photo(2 * number),
            "target": photo(2 * number + 1),
            "instruction": f"make it like number {number}",
            "expressive_instruction": "it looks like another picture",
        }
        return EditExample(**values | changes)  # type: ignore[arg-type]

    return make


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A clean data set with all splits in files: ``<split>-<0..3>``, a source, a target and a mask each."""
    for first, split in enumerate(("train", "val", "test")):
        rows = []
        for index in range(4):
            number = 100 + 10 * first + index
            names = {kind: f"{kind}-{index}.png" for kind in ("source", "target", "mask")}
            rows.append({f"{kind}_file_name": name for kind, name in names.items()})
            rows[-1] |= {"id": f"{split}-{index}", "instruction": f"turn it into number {number}"}
            (tmp_path / split).mkdir(exist_ok=True)
            photo(2 * number).save(tmp_path / split / names["source"])
            photo(2 * number + 1).save(tmp_path / split / names["target"])
            Image.new("L", (48, 32), 255).save(tmp_path / split / names["mask"])
        lines = "".join(f"{json.dumps(entry)}\n" for entry in rows)
        (tmp_path / split / "metadata.jsonl").write_text(lines)
    return tmp_path
