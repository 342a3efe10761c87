from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_sample_images

from mgie_lit.data.resampling import resize
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.errors import ConfigError
from mgie_lit.testing.random_data import random_image


@pytest.fixture(scope="module")
def photos() -> list[Image.Image]:
    return [Image.fromarray(pixels) for pixels in load_sample_images().images]


def difference(image: Image.Image, size: tuple[int, int], kernel: Image.Resampling) -> np.ndarray:
    scaled = [np.asarray(resize(image, size, resampler=name, kernel=kernel)) for name in ("pillow", "torch")]
    assert scaled[0].shape == scaled[1].shape == (size[1], size[0], 3)
    assert scaled[1].dtype == np.uint8
    return np.abs(scaled[0].astype(int) - scaled[1])


@pytest.mark.parametrize("kernel", [Image.Resampling.BICUBIC, Image.Resampling.BILINEAR])
@pytest.mark.parametrize("size", [(256, 256), (224, 150), (700, 500)])
def test_torch_differs_little_at_few_places(
    photos: list[Image.Image], size: tuple[int, int], kernel: Image.Resampling
) -> None:
    for photo in photos:
        off = difference(photo, size, kernel)
        assert off.max() <= 2
        assert off.mean() < 0.02


def test_kernels_that_torch_lacks_are_pillows() -> None:
    image = random_image(50, 40, seed=0)
    for kernel in (Image.Resampling.LANCZOS, Image.Resampling.NEAREST, Image.Resampling.BOX):
        assert not difference(image, (20, 30), kernel).any()


@pytest.mark.parametrize("resampler", ["pillow", "torch"])
def test_pillow_is_pillow_and_the_same_size_is_untouched(resampler: str) -> None:
    image = random_image(50, 40, seed=0)
    assert resize(image, (50, 40), resampler=resampler) is image
    small = resize(image, (20, 10), resampler=resampler)
    assert small.size == (20, 10)
    assert (small == image.resize((20, 10), Image.Resampling.BICUBIC)) == (resampler == "pillow")


@pytest.mark.parametrize("kind", [PairTransform, TwoStepTransform])
def test_other_names(kind: type[PairTransform | TwoStepTransform]) -> None:
    with pytest.raises(ConfigError, match=r"data\.resampler: expected pillow or torch, got 'cv2'; use one of these"):
        kind(16, "cv2")
