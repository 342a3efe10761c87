"""Source, target and mask move together."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.transforms import PairTransform
from mgie_lit.errors import ConfigError
from mgie_lit.types import EditExample


def _noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def _example(source: Image.Image, target: Image.Image | None, mask: Image.Image | None = None) -> EditExample:
    return EditExample("row", source, target, "make it brighter", mask=mask)


def test_same_size_is_untouched() -> None:
    example = _example(_noise(16, 16), _noise(16, 16, seed=1), Image.new("L", (16, 16), 255))
    cut = PairTransform(16)(example, offset=(0.9, 0.1))
    assert cut.source is example.source
    assert cut.target is example.target
    assert cut.mask is example.mask


@pytest.mark.parametrize("size", [(40, 20), (20, 40), (13, 57), (1, 1), (3, 300)])
def test_any_size_becomes_the_square(size: tuple[int, int]) -> None:
    cut = PairTransform(16)(_example(_noise(*size), _noise(*size)), offset=(0.3, 1.0), flip=True)
    assert cut.source.size == (16, 16)
    assert np.array_equal(np.asarray(cut.source), np.asarray(cut.target))


@pytest.mark.parametrize(("offset", "left"), [((0.0, 0.5), 0), ((0.5, 0.5), 12), ((1.0, 0.0), 24)])
def test_offset_places_the_square(offset: tuple[float, float], left: int) -> None:
    source = _noise(40, 16)
    cut = PairTransform(16)(_example(source, None), offset=offset)
    assert cut.target is None
    assert np.array_equal(np.asarray(cut.source), np.asarray(source)[:, left : left + 16])


def test_flip_mirrors_all_three() -> None:
    mask = Image.new("L", (16, 16))
    mask.paste(255, (0, 0, 4, 16))
    example = _example(_noise(16, 16), _noise(16, 16, seed=1), mask)
    flipped = PairTransform(16)(example, flip=True)
    for before, after in ((example.source, flipped.source), (example.target, flipped.target), (mask, flipped.mask)):
        assert np.array_equal(np.asarray(after), np.asarray(before)[:, ::-1])


def test_target_of_another_size_is_laid_over_the_source() -> None:
    source = Image.new("RGB", (64, 32), "black")
    source.paste("white", (32, 0, 64, 32))
    cut = PairTransform(32)(_example(source, source.resize((128, 64))), offset=(0.5, 0.5))
    assert cut.target is not None
    difference = np.abs(np.asarray(cut.source).astype(int) - np.asarray(cut.target).astype(int))
    assert difference.max() < 60  # a shift by one pixel would give 255


@pytest.mark.parametrize("resolution", [11, 24, 48, 100])
def test_scaled_mask_still_covers_every_change(resolution: int) -> None:
    source = _noise(48, 48)
    target = np.array(source)
    target[20:27, 10:30] = 255 - target[20:27, 10:30]
    mask = Image.new("L", (48, 48))
    mask.paste(255, (10, 20, 30, 27))
    cut = PairTransform(resolution)(_example(source, Image.fromarray(target), mask))
    changed = (np.asarray(cut.source) != np.asarray(cut.target)).any(axis=-1)
    allowed = np.asarray(cut.mask)
    assert set(np.unique(allowed)) == {0, 255}
    assert changed.any()
    assert not (changed & (allowed == 0)).any()


def test_offset_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"offset: expected two numbers in \[0, 1\], got \(0.5, 1.2\)"):
        PairTransform(16)(_example(_noise(20, 20), None), offset=(0.5, 1.2))


def test_resolution_out_of_range() -> None:
    with pytest.raises(ConfigError, match="resolution: expected at least 1 pixel, got 0"):
        PairTransform(0)
