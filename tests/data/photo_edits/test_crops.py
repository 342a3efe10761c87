"""The pool of crops."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.photo_edits import crops as module
from mgie_lit.data.photo_edits.crops import EVAL_CROPS_EACH, MIN_STD, CropPool, crop_pool
from mgie_lit.errors import DataError


def _photographs(root: Path, flat: bool = False) -> str:
    rng = np.random.default_rng(0)
    for split in ("train", "val", "test"):
        (root / split).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (8, 10, 3), dtype=np.uint8)
            image = Image.new("RGB", (200, 160), "navy") if flat else Image.fromarray(pixels).resize((200, 160))
            image.save(root / split / f"{number}.png")
    return str(root)


def test_evaluation_pool_is_balanced(pool: CropPool) -> None:
    assert pool.names == ("flower", "coffee", "rocket", "grace_hopper")
    assert [len(crops) for crops in pool.members] == [EVAL_CROPS_EACH] * 4
    assert pool.pixels.shape == (4 * EVAL_CROPS_EACH, 64, 64, 3)
    assert all(pool.name(int(crops[0])) == name for crops, name in zip(pool.members, pool.names, strict=True))


def test_no_crop_is_flat_and_none_repeats(pool: CropPool) -> None:
    assert all(crop.std(axis=(0, 1)).max() >= 0.8 * MIN_STD for crop in pool.pixels)
    assert len({crop.tobytes() for crop in pool.pixels}) == len(pool)


def test_pool_is_shared_and_read_only(pool: CropPool) -> None:
    assert crop_pool("test", 64) is pool
    with pytest.raises(ValueError, match="read-only"):
        pool.pixels[0, 0, 0, 0] = 0


def test_pool_does_not_depend_on_the_process(pool: CropPool) -> None:
    again = crop_pool.__wrapped__("test", 64)
    assert np.array_equal(again.pixels, pool.pixels)


def test_training_pool_follows_the_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "TRAIN_CROPS", 130)
    pool = crop_pool.__wrapped__("train", 16)
    counts = dict(zip(pool.names, map(len, pool.members), strict=True))
    assert counts["china"] == 40
    assert counts["astronaut"] == counts["chelsea"] == 30
    assert counts["ihc"] == 10


def test_small_photographs_give_crops_of_their_own_size(tmp_path: Path) -> None:
    root = tmp_path / "small"
    for number in range(3):
        root.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(0, 256, (20, 30, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(root / f"{number}.png")
    assert crop_pool("test", 32, str(root)).pixels.shape[1:] == (32, 32, 3)


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_POOL_BYTES", 10 * 3 * 32**2)
    root = _photographs(tmp_path / "photos")
    assert len(crop_pool.__wrapped__("train", 32, root)) == 10
    assert len(crop_pool.__wrapped__("test", 32, root)) == 10


def test_flat_photographs_are_refused(tmp_path: Path) -> None:
    root = _photographs(tmp_path / "flat", flat=True)
    with pytest.raises(DataError, match=r"val photographs: expected at least one crop with some contrast, got none"):
        crop_pool("val", 32, root)


def test_broken_photograph_is_named(tmp_path: Path) -> None:
    root = _photographs(tmp_path / "photos")
    (Path(root) / "test" / "0.png").write_bytes(b"nonsense")
    with pytest.raises(DataError, match=r"test/0\.png: expected an image"):
        crop_pool("test", 32, root)
