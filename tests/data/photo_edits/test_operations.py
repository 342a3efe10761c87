"""Global edits: formulas, limits, direction."""

from __future__ import annotations

import numpy as np
import pytest

from mgie_lit.data.photo_edits.operations import (
    DETAIL_OPERATIONS,
    GLOBAL_OPERATIONS,
    blur,
    contrast,
    exposure,
    gamma,
    negative,
    saturation,
    sharpen,
)
from mgie_lit.data.photo_edits.pixels import FloatImage, to_bytes, to_float

RGB = (0.2, 0.4, 0.8)
GRAY = 0.299 * 0.2 + 0.587 * 0.4 + 0.114 * 0.8
EXPECTED = {
    "brighter": [value**0.55 for value in RGB],
    "darker": [value**1.9 for value in RGB],
    "more_contrast": [(value - 0.5) * 1.7 + 0.5 for value in RGB],
    "less_contrast": [(value - 0.5) * 0.45 + 0.5 for value in RGB],
    "more_saturation": [GRAY + (value - GRAY) * 1.9 for value in RGB],
    "less_saturation": [GRAY + (value - GRAY) * 0.35 for value in RGB],
    "warmer": [0.2 * 1.2, 0.4 * 1.02, 0.8 * 0.68],
    "cooler": [0.2 * 0.68, 0.4 * 0.98, 0.8 * 1.25],
    "grayscale": [GRAY] * 3,
    "negative": [1 - value for value in RGB],
}


def _image(side: int = 12) -> FloatImage:
    return np.random.default_rng(0).random((side, side + 3, 3), dtype=np.float32)


def test_all_ten_are_here() -> None:
    assert GLOBAL_OPERATIONS.keys() == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_formula(name: str) -> None:
    edited = GLOBAL_OPERATIONS[name](np.array([[RGB]], dtype=np.float32))
    assert np.allclose(edited[0, 0], EXPECTED[name], atol=1e-6)


@pytest.mark.parametrize("name", [*GLOBAL_OPERATIONS, *DETAIL_OPERATIONS])
def test_type_and_shape_are_kept_and_the_input_too(name: str) -> None:
    image = _image()
    before = image.copy()
    edited = (GLOBAL_OPERATIONS | DETAIL_OPERATIONS)[name](image)
    assert edited.dtype == np.float32
    assert edited.shape == image.shape
    assert np.array_equal(image, before)
    assert not np.allclose(edited, image)


def test_limits_change_nothing() -> None:
    image = _image()
    assert np.allclose(gamma(image, 1.0), image)
    assert np.allclose(contrast(image, 1.0), image)
    assert np.allclose(saturation(image, 1.0), image)
    assert np.allclose(negative(negative(image)), image)


def test_blur_keeps_flat_pictures_and_the_mean_of_others() -> None:
    flat = np.full((9, 9, 3), 0.3, dtype=np.float32)
    assert np.allclose(blur(flat), flat, atol=1e-6)
    image = _image(40)
    assert blur(image).std() < 0.6 * image.std()
    assert abs(float(blur(image).mean() - image.mean())) < 0.01


def test_blur_equals_a_slow_one() -> None:
    image = _image(8)
    sigma, radius = 1.0, 3
    weights = np.exp(-0.5 * np.arange(-radius, radius + 1) ** 2 / sigma**2)
    kernel = np.outer(weights, weights) / weights.sum() ** 2
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    slow = np.zeros_like(image)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            slow[y, x] = np.tensordot(kernel, padded[y : y + 7, x : x + 7], axes=2)
    assert np.allclose(blur(image, sigma / 8), slow, atol=1e-5)


def test_sharpen_raises_edges() -> None:
    image = _image(64)
    assert sharpen(image).std() > 1.2 * image.std()


@pytest.mark.parametrize(
    ("level", "judgement"), [(0.1, "dark"), (0.3, "unclear"), (0.45, "fine"), (0.65, "unclear"), (0.9, "bright")]
)
def test_exposure(level: float, judgement: str) -> None:
    assert exposure(np.full((4, 5, 3), level, dtype=np.float32)) == judgement


def test_bytes_round_trip() -> None:
    every = np.arange(256, dtype=np.uint8).repeat(3).reshape(16, 16, 3)
    assert np.array_equal(to_bytes(to_float(every)), every)
    assert to_bytes(np.array([[[-3.0, 0.5, 7.0]]], dtype=np.float32)).tolist() == [[[0, 128, 255]]]
