from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.data.readers.masks import decode_run_lengths, encode_run_lengths, open_mask
from mgie_lit.errors import DataError

# pycocotools 2.0.11: mask.encode of a 7 x 9 mask with [2:6, 3:8] and [0, 0] set and [4, 5] not
KNOWN = {"size": [7, 9], "counts": "01f03]O00NNO23005"}


def known_mask() -> np.ndarray:
    mask = np.zeros((7, 9), bool)
    mask[2:6, 3:8] = True
    mask[0, 0] = True
    mask[4, 5] = False
    return mask


def test_run_lengths_of_another_library() -> None:
    assert np.array_equal(decode_run_lengths(KNOWN, ""), known_mask())
    assert encode_run_lengths(known_mask()) == KNOWN


def test_plain_counts() -> None:
    assert decode_run_lengths({"size": [2, 2], "counts": [1, 2, 1]}, "").tolist() == [[False, True], [True, False]]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 1.0])
@pytest.mark.parametrize("shape", [(1, 1), (3, 200), (211, 97)])
def test_run_lengths_come_back(shape: tuple[int, int], share: float) -> None:
    mask = np.random.default_rng(3).random(shape) < share
    assert np.array_equal(decode_run_lengths(encode_run_lengths(mask), ""), mask)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (
            {"size": [7, 9], "counts": "01f0"},
            r"here: expected runs over 7 x 9 = 63 pixels, got \d+; the mask is damaged",
        ),
        ({"size": [7, 9], "counts": [70, -7]}, r"expected runs over 7 x 9 = 63 pixels"),
        ({"counts": "01"}, r"here: expected a mask with `size` and `counts`, got .*; download it again"),
        ("01f0", r"expected a mask with `size` and `counts`, got 01f0"),
    ],
)
def test_damaged_run_lengths(mask: object, message: str) -> None:
    with pytest.raises(DataError, match=message):
        decode_run_lengths(mask, "here")


def test_transparent_part_is_the_mask(tmp_path: Path) -> None:
    alpha = Image.new("L", (4, 2), 255)
    alpha.paste(0, (2, 0, 4, 2))
    picture = Image.new("RGB", (4, 2), "white")  # white, and yet outside
    picture.putalpha(alpha)
    picture.save(tmp_path / "mask.png")
    assert np.asarray(open_mask(tmp_path / "mask.png", (8, 4))).tolist() == [[0] * 4 + [255] * 4] * 4


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_white_part_is_the_mask_where_nothing_is_transparent(tmp_path: Path, mode: str) -> None:
    picture = Image.new("L", (4, 2), 10)
    picture.paste(250, (0, 0, 1, 2))
    picture.convert(mode, dither=Image.Dither.NONE).save(tmp_path / "mask.png")
    mask = open_mask(tmp_path / "mask.png", (4, 2))
    assert mask.mode == "L"
    assert np.asarray(mask).tolist() == [[255, 0, 0, 0]] * 2


@pytest.mark.faults
def test_missing_mask(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"mask\.png: expected an image file, got nothing"):
        open_mask(tmp_path / "mask.png", (4, 2))
