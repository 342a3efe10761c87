"""Equal to transformers' image processors to the last bit, whatever they are set to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.data import vision_pixels
from mgie_lit.data.vision_pixels import VisionPixels
from mgie_lit.testing.random_data import random_image

SETTINGS: list[dict[str, Any]] = [
    {},  # those of ViT-L/14
    {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}},
    {"size": {"shortest_edge": 24}, "crop_size": {"height": 17, "width": 20}},
    {"size": {"shortest_edge": 20}, "crop_size": {"height": 31, "width": 24}},  # padded with black, then normalised
    {"size": {"shortest_edge": 20}, "crop_size": {"height": 23, "width": 33}},
    {"size": {"height": 18, "width": 27}, "do_center_crop": False},
    {"size": {"height": 30, "width": 21}, "crop_size": {"height": 24, "width": 24}, "resample": 0},
    {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, "resample": 2},
    {"size": {"shortest_edge": 24}, "crop_size": {"height": 24, "width": 24}, "resample": 1},
    {"do_resize": False, "crop_size": {"height": 24, "width": 24}},
    {"do_resize": False, "do_center_crop": False},
    {"do_rescale": False, "size": {"shortest_edge": 24}, "do_center_crop": False},
    {"do_normalize": False, "size": {"shortest_edge": 24}, "do_center_crop": False},
    {"do_normalize": False, "do_rescale": False, "size": {"shortest_edge": 24}, "do_center_crop": False},
    {"rescale_factor": 1 / 127.5, "image_mean": [1.0, 1.0, 1.0], "image_std": [1.0, 1.0, 1.0]},
    {"image_mean": [0.5, 0.4, 0.1], "image_std": [0.25, 0.3, 0.7], "do_convert_rgb": False},
]
OTHERS: list[dict[str, Any]] = [  # rules that are left to the processor
    {"size": {"shortest_edge": 24, "longest_edge": 26}, "do_center_crop": False},
    {"size": {"max_height": 24, "max_width": 20}, "do_center_crop": False},
    {"do_pad": True, "pad_size": {"height": 300, "width": 310}},
]


class Brighter(CLIPImageProcessorPil):
    """One with a step of its own."""

    def rescale(self, image: np.ndarray, scale: float, **kwargs: Any) -> np.ndarray:  # noqa: ANN401
        return super().rescale(image, scale, **kwargs) + image.mean() / 255


def assert_equal(processor: CLIPImageProcessorPil, size: tuple[int, int]) -> VisionPixels:
    images = [random_image(*size, seed=seed) for seed in range(2)]
    expected = processor(images, return_tensors="pt")["pixel_values"]
    mine = VisionPixels(processor)
    made = mine.finish(torch.stack([mine.levels(image) for image in images]))
    assert made.dtype == expected.dtype
    assert made.is_contiguous()
    assert torch.equal(made, expected)
    return mine


@pytest.mark.parametrize("size", [(40, 27), (25, 38), (24, 24)])
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_every_setting(settings: dict[str, Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    processor = CLIPImageProcessorPil(**settings)
    mine = assert_equal(processor, size)
    monkeypatch.setattr(CLIPImageProcessorPil, "__call__", None)
    assert mine.levels(random_image(*size, seed=0)).dtype == torch.uint8, "the processor is not asked for it"


@pytest.mark.parametrize("processor", [*(CLIPImageProcessorPil(**settings) for settings in OTHERS), Brighter()])
def test_other_processors_are_asked(processor: CLIPImageProcessorPil) -> None:
    mine = assert_equal(processor, (40, 27))
    assert mine.levels(random_image(40, 27, seed=0)).is_floating_point()


def test_every_step_of_a_processor_is_known() -> None:
    """A new one in transformers would not be noticed otherwise."""
    steps = {name for name, value in vars(vision_pixels.PilBackend).items() if callable(value)}
    assert steps - set(vision_pixels._STEPS) <= {"__init__", "to_dict"}


def test_resampler_is_used_for_the_tower_too() -> None:
    image = random_image(90, 70, seed=3)
    processor = CLIPImageProcessorPil(size={"shortest_edge": 31}, crop_size={"height": 31, "width": 31})
    pillow, other = (VisionPixels(processor, name).levels(image) for name in ("pillow", "torch"))
    assert not torch.equal(pillow, other)
    assert (pillow.int() - other.int()).abs().max() <= 2
