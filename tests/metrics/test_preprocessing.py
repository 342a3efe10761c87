from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mgie_lit.errors import ConfigError
from mgie_lit.metrics.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing


def noise(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(width).integers(256, size=(height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize(("size", "crop"), [((60, 40), 32), ((40, 61), 24), ((24, 24), 24), ((3, 50), 20)])
def test_equals_plain_steps(size: tuple[int, int], crop: int) -> None:
    image = noise(*size)
    pixels = Preprocessing(size=32, crop=crop, mean=IMAGENET_MEAN, std=IMAGENET_STD).pixels([image])[0]
    scale = 32 / min(size)
    resized = image.resize((int(size[0] * scale + 1e-9), int(size[1] * scale + 1e-9)), Image.Resampling.BICUBIC)
    left, top = (round((side - crop) / 2) for side in resized.size)
    cut = np.asarray(resized, dtype=np.float64)[top : top + crop, left : left + crop] / 255.0
    expected = (cut - IMAGENET_MEAN) / IMAGENET_STD
    np.testing.assert_allclose(pixels.permute(1, 2, 0).numpy(), expected, atol=1e-6)


def test_equals_transformers_clip_on_even_borders() -> None:
    image = noise(64, 48)
    processor: Any = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 24}, crop_size={"height": 24, "width": 24}
    )
    theirs = processor([image], return_tensors="pt", input_data_format="channels_last")["pixel_values"]
    torch.testing.assert_close(Preprocessing(size=24, crop=24).pixels([image]), theirs, atol=1e-5, rtol=0)


def test_open_sides_are_the_encoders_own() -> None:
    rules = Preprocessing(crop=28)
    assert rules.for_side(32) == Preprocessing(size=32, crop=28)
    assert Preprocessing().for_side(8).pixels([noise(9, 20), noise(50, 8)]).shape == (2, 3, 8, 8)


def test_equal_rules_are_one_key() -> None:
    assert hash(Preprocessing(mean=[0.5, 0.5, 0.5])) == hash(Preprocessing(mean=(0.5, 0.5, 0.5)))


def test_description_says_what_is_done() -> None:
    described = Preprocessing(size=256, crop=224, resample="bilinear").describe()
    assert described["size"] == {"shortest_edge": 256}
    assert described["crop_size"] == {"height": 224, "width": 224}
    assert described["resample"] == "bilinear"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"resample": "cubic"}, r"preprocessing.resample: expected one of nearest, .* got 'cubic'"),
        ({"size": 20, "crop": 24}, r"preprocessing: expected 1 <= crop <= size, got crop=24, size=20"),
        ({"mean": [0.5]}, r"preprocessing: expected three numbers each in mean and std, got \[0.5\]"),
    ],
)
def test_values_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Preprocessing(**values)
