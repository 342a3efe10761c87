from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.errors import DataError
from mgie_lit.evaluation import scoring
from mgie_lit.evaluation.scoring import fit, score_edits
from mgie_lit.metrics.base import SampleMetric
from mgie_lit.metrics.pixel import L1, SSIM
from mgie_lit.metrics.text import ExpressiveExact
from mgie_lit.types import EditedImage, EditExample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

METRICS = {"l1": L1(), "exact": ExpressiveExact()}


def copy_source(examples: Sequence[EditExample], *, seed: int) -> list[EditedImage]:
    return [EditedImage(example.source) for example in examples]


class Recorder(SampleMetric):
    """Notes what it was given."""

    name: ClassVar[str] = "recorder"
    higher_is_better = True
    needs: ClassVar[tuple[str, ...]] = ("preds", "masks", "captions", "sample_ids", "source")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[dict[str, Any]] = []

    def score(self, preds: torch.Tensor, **others: object) -> torch.Tensor:
        self.seen.append({"preds": preds, **others})
        return torch.zeros(len(preds))


def test_scores_edits_and_copies(make_dataset: Callable[..., Any], make_system: Callable[..., Any]) -> None:
    edits = list(score_edits(make_system(50), [make_dataset(51, 102).examples], METRICS, seeds=(0, 1)))
    assert [(edit.example.sample_id, edit.seed) for edit in edits] == [("s0", 0), ("s1", 0), ("s0", 1), ("s1", 1)]
    assert [edit.scores["l1"] for edit in edits] == pytest.approx([1 / 255, 52 / 255, 0.0, 51 / 255], abs=1e-6)
    assert [edit.scores["exact"] for edit in edits] == [0.0, 0.0, 1.0, 0.0]
    assert [edit.copy_scores for edit in edits] == [
        pytest.approx({"l1": level / 255}, abs=1e-6) for level in (51, 102, 51, 102)
    ]


def test_copy_system_equals_the_copy_scores(make_dataset: Callable[..., Any]) -> None:
    for edit in score_edits(copy_source, [make_dataset(3, 200).examples], {"l1": L1()}, seeds=(0,)):
        assert edit.scores == edit.copy_scores


def test_sizes_may_differ_and_small_images_have_no_ssim(make_dataset: Callable[..., Any]) -> None:
    rng = np.random.default_rng(0)

    def noise(width: int, height: int) -> Image.Image:
        return Image.fromarray(rng.integers(256, size=(height, width, 3), dtype=np.uint8))

    sizes = [(20, 15), (5, 9), (20, 15), (40, 11)]
    examples = [
        replace(example, source=noise(18, 22), target=noise(*size))
        for example, size in zip(make_dataset(1, 2, 3, 4).examples, sizes, strict=True)
    ]
    metrics = {"l1": L1(), "ssim": SSIM()}
    together = list(score_edits(copy_source, [examples], metrics, seeds=(0,)))
    alone = [next(score_edits(copy_source, [[example]], metrics, seeds=(0,))) for example in examples]
    for one, other, example in zip(together, alone, examples, strict=True):
        assert one.scores == pytest.approx(other.scores, nan_ok=True)
        assert example.target is not None
        resized = np.asarray(example.source.resize(example.target.size, Image.Resampling.BICUBIC), dtype=np.float64)
        expected = np.abs(resized - np.asarray(example.target)).mean() / 255.0
        assert one.scores["l1"] == pytest.approx(expected, abs=1e-6)
    assert [np.isnan(edit.scores["ssim"]) for edit in together] == [False, True, False, False]


def test_large_images_are_scored_in_small_groups(
    make_dataset: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scoring, "_PIXELS_AT_ONCE", 2 * 16 * 12)
    recorder = Recorder()
    list(score_edits(copy_source, [make_dataset(*range(5)).examples], {"recorder": recorder}, seeds=(0,)))
    assert [len(call["preds"]) for call in recorder.seen] == [2, 2, 1, 2, 2, 1]


def test_metrics_may_read_masks_and_captions(make_dataset: Callable[..., Any]) -> None:
    example = make_dataset(9).examples[0]
    mask = Image.new("L", (8, 6))
    mask.putpixel((0, 0), 255)
    recorder = Recorder()
    example = replace(example, caption="a gray", mask=mask)
    list(score_edits(copy_source, [[example]], {"recorder": recorder}, seeds=(0,)))
    seen = recorder.seen[0]
    assert seen["captions"] == ["a gray"]
    assert seen["sample_ids"] == ["s0"]
    assert seen["masks"][0].size == (16, 12)
    assert sorted(set(seen["masks"][0].tobytes())) == [0, 255]
    assert torch.equal(seen["source"], seen["preds"])


def test_state_of_the_metrics_stays(make_dataset: Callable[..., Any]) -> None:
    metric = L1()
    list(score_edits(copy_source, [make_dataset(9).examples], {"l1": metric}, seeds=(0,)))
    assert metric.count.item() == 0


def test_missing_edit_has_no_scores(make_dataset: Callable[..., Any]) -> None:
    class Half:
        def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage | None]:
            return [None, EditedImage(examples[1].source)]

    first, second = score_edits(Half(), [make_dataset(51, 102).examples], METRICS, seeds=(0,))
    assert first.edited is None
    assert np.isnan([first.scores["l1"], first.scores["exact"], first.copy_scores["l1"]]).all()
    assert second.scores["l1"] == second.copy_scores["l1"] == pytest.approx(0.4)


def test_missing_target_is_an_error(make_dataset: Callable[..., Any]) -> None:
    examples = make_dataset(1, 2).examples
    examples[1] = replace(examples[1], target=None)
    with pytest.raises(DataError, match=r"s1: expected a target image to score against, got none \(1 of 2 samples"):
        list(score_edits(copy_source, [examples], METRICS, seeds=(0,)))


def test_wrong_number_of_edits_is_an_error(make_dataset: Callable[..., Any]) -> None:
    class Short:
        def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage]:
            return [EditedImage(examples[0].source)]

    with pytest.raises(ValueError, match="system: expected 2 edited images, one an example, got 1"):
        list(score_edits(Short(), [make_dataset(1, 2).examples], METRICS, seeds=(0,)))


def test_wrong_number_of_scores_is_an_error(make_dataset: Callable[..., Any]) -> None:
    class Short(Recorder):
        def score(self, preds: torch.Tensor, **others: object) -> torch.Tensor:
            return torch.zeros(1)

    with pytest.raises(ValueError, match="short: expected 2 scores, one a sample, got 1"):
        list(score_edits(copy_source, [make_dataset(1, 2).examples], {"short": Short()}, seeds=(0,)))


def test_fit_leaves_the_right_size_alone() -> None:
    image = Image.new("RGB", (3, 4))
    assert fit(image, (3, 4)) is image
    assert fit(image, (5, 2)).size == (5, 2)
