from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from mgie_lit.functional.pictures import to_rgb, upright

pytestmark = pytest.mark.faults


def test_an_upright_image_is_not_copied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 1
    turned_by_none = Image.new("RGB", (3, 2))
    turned_by_none.info["exif"] = exif.tobytes()
    for image in (Image.new("RGB", (3, 2)), turned_by_none):
        assert upright(image) is image


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 2**31 - 1]], dtype=np.int32), [0, 255]),
        (np.array([[0.0, 0.5, 1.0]], dtype=np.float32), [0, 128, 255]),
        (np.array([[0.0, 51.0, 255.0]], dtype=np.float32), [0, 51, 255]),
        (np.array([[np.nan, -1.0, 1.0]], dtype=np.float32), [0, 0, 255]),
    ],
)
def test_thirty_two_bit_modes(values: np.ndarray, expected: list[int]) -> None:
    assert np.asarray(to_rgb(Image.fromarray(values)))[0, :, 1].tolist() == expected


@pytest.mark.parametrize("mode", ["1", "L", "YCbCr", "HSV", "La", "RGBa", "PA"])
def test_other_modes_become_rgb(mode: str) -> None:
    base = Image.new("LA" if mode == "La" else "RGBA" if mode == "RGBa" else "L", (3, 2), "white")
    image = base.convert("P").convert("PA") if mode == "PA" else base.convert("RGB" if mode == "HSV" else base.mode)
    converted = to_rgb(image.convert(mode))
    assert converted.mode == "RGB"
    assert np.asarray(converted).min() >= 254
