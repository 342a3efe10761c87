from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mgie_lit.report.images import FULL_SCALE, MAX_SIDE, data_uri, difference_map, encode_or_none, open_or_none

if TYPE_CHECKING:
    from pathlib import Path


def decoded(uri: str) -> Image.Image:
    head, _, data = uri.partition(",")
    assert head == "data:image/jpeg;base64"
    return Image.open(io.BytesIO(base64.b64decode(data)))


def test_large_images_are_made_small(tmp_path: Path) -> None:
    Image.new("RGBA", (1000, 500), "#ff000080").save(tmp_path / "large.png")
    assert decoded(data_uri(tmp_path / "large.png") or "").size == (MAX_SIDE, MAX_SIDE // 2)
    assert decoded(data_uri(tmp_path / "large.png", max_side=64) or "").size == (64, 32)


def test_what_can_not_be_read_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no image")
    assert data_uri(tmp_path / "absent.png") is None
    assert open_or_none(tmp_path / "broken.png") is None
    assert open_or_none(None) is None
    assert encode_or_none(None, 64) is None


def test_difference_is_the_mean_over_colours() -> None:
    generator = np.random.default_rng(0)
    edited, target = (generator.integers(0, 256, (7, 5, 3), dtype=np.uint8) for _ in range(2))
    expected = np.abs(edited.astype(float) - target).mean(axis=2) / 255 / FULL_SCALE
    made = np.asarray(difference_map(Image.fromarray(edited), Image.fromarray(target)), dtype=float) / 255
    assert made.shape == (7, 5)
    assert np.abs(made - np.minimum(expected, 1)).max() < 1.6 / 255 / FULL_SCALE  # rounded twice to 8 bits


def test_equal_images_are_black_whatever_their_size() -> None:
    small, large = Image.new("RGB", (4, 4), (9, 90, 200)), Image.new("RGB", (8, 8), (9, 90, 200))
    made = difference_map(small, large)
    assert made.size == (8, 8)
    assert made.getextrema() == (0, 0)
