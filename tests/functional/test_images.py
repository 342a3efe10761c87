from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from mgie_lit.functional.images import pil_to_unit, to_signed, to_unit, unit_to_pil, working_size


def test_pil_to_unit_keeps_channels_rows_and_columns_apart() -> None:
    pixels = np.arange(2 * 5 * 3, dtype=np.uint8).reshape(2, 5, 3) * 8
    unit = pil_to_unit(Image.fromarray(pixels))
    assert unit.shape == (3, 2, 5)
    assert unit.dtype == torch.float32
    for y in range(2):
        for x in range(5):
            for channel in range(3):
                assert unit[channel, y, x].item() == pytest.approx(pixels[y, x, channel] / 255)


@pytest.mark.parametrize("mode", ["L", "RGBA", "CMYK", "P", "I;16"])
def test_pil_to_unit_wants_rgb(mode: str) -> None:
    with pytest.raises(ValueError, match=rf"image: expected mode RGB, got {mode}; convert it with"):
        pil_to_unit(Image.new(mode, (2, 3)))


def test_every_8_bit_value_survives_the_way_to_the_autoencoder_and_back() -> None:
    pixels = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    unit = pil_to_unit(Image.fromarray(pixels))
    signed = to_signed(unit)
    assert (signed.min(), signed.max()) == (-1.0, 1.0)
    assert np.array_equal(np.asarray(unit_to_pil(to_unit(signed))), pixels)


def test_unit_to_pil_clips_and_rounds() -> None:
    image = torch.tensor([-3.0, 0.0, 0.4 / 255, 0.6 / 255, 1.0, 7.0]).expand(3, 1, 6)
    assert np.asarray(unit_to_pil(image))[0, :, 1].tolist() == [0, 0, 0, 1, 255, 255]


def test_to_unit_clips_and_both_keep_batches() -> None:
    signed = torch.linspace(-2, 2, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    unit = to_unit(signed)
    assert (unit.min(), unit.max()) == (0.0, 1.0)
    assert torch.equal(to_unit(signed[1]), unit[1])
    assert torch.allclose(to_signed(unit), signed.clamp(-1, 1))


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 64), (64, 64)),
        ((1, 1), (64, 64)),
        ((4000, 3000), (72, 56)),
        ((900, 10), (112, 40)),
        ((10, 900), (40, 112)),
    ],
)
def test_working_size_of_known_images(size: tuple[int, int], expected: tuple[int, int]) -> None:
    assert working_size(*size, resolution=64, multiple=8) == expected


@given(
    width=st.integers(1, 5000),
    height=st.integers(1, 5000),
    resolution=st.integers(1, 512),
    multiple=st.sampled_from([1, 4, 8, 64]),
)
def test_working_size_fits_the_model(width: int, height: int, resolution: int, multiple: int) -> None:
    sides = working_size(width, height, resolution=resolution, multiple=multiple)
    assert all(side >= multiple and side % multiple == 0 for side in sides)
    assert working_size(height, width, resolution=resolution, multiple=multiple) == sides[::-1]
    aspect = min(max(width / height, 1 / 3), 3.0)
    for side, ideal in zip(sides, (resolution * aspect**0.5, resolution / aspect**0.5), strict=True):
        assert abs(side - ideal) <= max(multiple / 2, multiple - ideal) + 1e-6
