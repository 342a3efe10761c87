from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from mgie_lit.metrics.features import ClipDirection, ClipI, ClipT, ClipTOracle, Dino

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

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

    def encode_texts(self, texts: Sequence[str], *, truncate: bool) -> Tensor:
        self.encoded += len(texts)
        return self.encode(plain(*texts)) + (0.0 if truncate else 1.0)

    def text_identity(self) -> dict[str, object]:
        return {"model": "name of a colour"}


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


def test_folder_saves_other_evaluations_the_work(tmp_path: Path) -> None:
    first, second = ColorEncoder(), ColorEncoder()
    one = ClipI(first, cache=tmp_path).score(plain("red"), plain("yellow"))
    other = ClipI(second, cache=tmp_path).score(plain("red"), plain("yellow"))
    assert torch.equal(one, other)
    assert (first.encoded, second.encoded) == (2, 1)


def test_copies_are_features_of_the_data_set() -> None:
    encoder = ColorEncoder()
    metric = ClipI(encoder)
    sources, targets = plain("red", "blue"), plain("lime", "yellow")
    expected = metric.score(plain("red", "blue"), targets, sources)
    assert encoder.encoded == 4
    assert torch.equal(metric.score(sources, targets, sources), expected)
    metric.score(sources, targets, sources)
    assert encoder.encoded == 6, "the sources once"


def test_clip_t_compares_with_the_caption() -> None:
    metric = ClipT(ColorEncoder())
    scores = metric.score(plain("red", "red", "blue", "red"), ["red", None, "red", "yellow"])
    assert scores[[0, 2, 3]].tolist() == pytest.approx([1.0, 0.0, 0.5**0.5])
    assert scores[1].isnan()
    assert metric.score(plain("red"), [""]).isnan().item()
    metric.update(plain("red", "red"), ["yellow", None])
    assert metric.compute().item() == pytest.approx(0.5**0.5)


def test_captions_are_encoded_once() -> None:
    encoder = ColorEncoder()
    metric = ClipT(encoder, cache_size=2)
    metric.score(plain("red", "blue"), ["lime", "lime"])
    assert encoder.encoded == 4  # two images; one caption, which counts twice here
    metric.score(plain("red"), ["lime"])
    assert encoder.encoded == 5
    metric.score(plain("red", "red"), ["blue", "yellow"])
    assert len(metric._texts) == 2


def test_oracle_reads_the_target_alone() -> None:
    metric = ClipTOracle(ColorEncoder())
    assert metric.score(plain("red", "blue"), ["red", "red"]).tolist() == pytest.approx([1.0, 0.0])
    assert metric.score(plain("red"), [None]).isnan().item()
    assert not metric.scores_images


def test_direction_compares_changes() -> None:
    metric = ClipDirection(ColorEncoder())
    sources = plain("red", "red", "red", "red")
    preds = [*plain("lime", "blue"), sources[2], *plain("lime")]
    scores = metric.score(preds, sources, ["lime", "lime", "lime", "lime"], ["red", "red", "red", None])
    assert scores[:3].tolist() == pytest.approx([1.0, 0.5, 0.0], abs=1e-6)
    assert scores[3].isnan()


def test_long_captions_are_part_of_the_identity() -> None:
    described = ClipT(ColorEncoder(), truncate=False).describe()
    assert described["long_captions"] == "an error"
    assert described["text_encoder"] == {"model": "name of a colour"}
    assert ClipDirection(ColorEncoder()).describe()["similarity"] == "cosine of differences of unit features"
