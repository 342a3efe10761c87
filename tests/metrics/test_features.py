from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from mgie_lit.metrics.features import ClipI, Dino

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


class ColorEncoder:
    """Features are the mean colour; counts what it encodes."""

    def __init__(self) -> None:
        self.encoded = 0

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        self.encoded += len(images)
        return torch.tensor([image.resize((1, 1)).getpixel((0, 0)) for image in images], dtype=torch.float32)

    def identity(self) -> dict[str, object]:
        return {"model": "mean colour"}


def plain(*colors: str) -> list[Image.Image]:
    return [Image.new("RGB", (3, 4), color) for color in colors]


@pytest.mark.parametrize("kind", [ClipI, Dino])
def test_score_is_the_cosine_of_features(kind: type[ClipI]) -> None:
    scores = kind(ColorEncoder()).score(plain("red", "red", "red"), plain("red", "yellow", "blue"))
    assert scores.tolist() == pytest.approx([1.0, 0.5**0.5, 0.0])


def test_targets_are_encoded_once() -> None:
    encoder = ColorEncoder()
    metric = ClipI(encoder)
    metric.score(plain("red", "blue"), plain("lime", "lime"))
    assert encoder.encoded == 3  # two predictions, one picture as target of both
    metric.score(plain("lime"), plain("lime"))
    assert encoder.encoded == 4


def test_equal_ids_can_not_bring_back_another_picture() -> None:
    metric = ClipI(ColorEncoder())
    assert metric.score(plain("red"), plain("red")).item() == pytest.approx(1.0)
    assert metric.score(plain("red"), plain("blue")).item() == 0.0
    assert metric.score([Image.new("RGB", (4, 3), "blue")], [Image.new("RGB", (4, 3), "red")]).item() == 0.0


def test_cache_drops_the_oldest() -> None:
    encoder = ColorEncoder()
    metric = ClipI(encoder, cache_size=2)
    scores = metric.score(plain("red", "lime", "blue"), plain("red", "lime", "blue"))
    assert scores.tolist() == pytest.approx([1.0, 1.0, 1.0])
    metric.score(plain("blue"), plain("blue"))
    assert encoder.encoded == 7
    metric.score(plain("red"), plain("red"))
    assert encoder.encoded == 9


def test_describe_holds_the_encoder() -> None:
    assert Dino(ColorEncoder()).describe()["encoder"] == {"model": "mean colour"}


def test_update_accumulates() -> None:
    metric = ClipI(ColorEncoder())
    metric.update(plain("red"), plain("red"))
    metric.update(plain("red"), plain("blue"))
    assert metric.compute().item() == pytest.approx(0.5)
