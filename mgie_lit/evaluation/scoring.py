"""Edit and score: the loop that evaluations with and without files share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image

from mgie_lit.errors import DataError
from mgie_lit.metrics.inputs import MetricInputs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mgie_lit.evaluation.systems import EditSystem
    from mgie_lit.metrics.base import SampleMetric
    from mgie_lit.types import EditedImage, EditExample

RESIZE_RULE = "edited image and source are resized to the target's size where it differs: PIL bicubic, antialiased"
_PIXELS_AT_ONCE = 2**23  # in the tensors of one group; bounds memory for large images

Scores = dict[str, float]  # metric's name -> score; NaN = does not apply


@dataclass(frozen=True, slots=True)
class ScoredEdit:
    """One sample under one seed."""

    example: EditExample
    seed: int
    edited: EditedImage | None  # as the system gave it; None where it gave none
    scores: Scores
    copy_scores: Scores  # of the source image in place of the edited one; image metrics only


@dataclass(frozen=True, slots=True)
class _Sample:
    example: EditExample
    target: Image.Image
    prediction: Image.Image
    text: str


def score_edits(
    system: EditSystem,
    batches: Iterable[Sequence[EditExample]],
    metrics: Mapping[str, SampleMetric],
    *,
    seeds: Sequence[int],
) -> Iterator[ScoredEdit]:
    """Edit each batch under each seed and score the edits and the sources against the targets.

    Args:
        system: What is evaluated.
        batches: Examples with a target, edited together.
        metrics: Name in tables -> metric; only :meth:`SampleMetric.score` is called, their state stays as it is.
        seeds: One edit a sample and seed.

    Yields:
        All samples of the first batch under the first seed, then under the second, then the next batch.

    Raises:
        DataError: An example has no target.
        ValueError: The system gave another number of edits than it got examples.
    """
    image_metrics = {name: metric for name, metric in metrics.items() if metric.scores_images}
    for examples in batches:
        _check_targets(examples)
        copies = _score([_sample(example, example.source, "") for example in examples], image_metrics)
        for seed in seeds:
            edits = system(examples, seed=seed)
            if len(edits) != len(examples):
                raise ValueError(f"system: expected {len(examples)} edited images, one an example, got {len(edits)}")
            made = [index for index, edit in enumerate(edits) if edit is not None]
            scores = dict(zip(made, _score(_samples(examples, edits), metrics), strict=True))
            for index, (example, edit) in enumerate(zip(examples, edits, strict=True)):
                yield ScoredEdit(
                    example=example,
                    seed=seed,
                    edited=edit,
                    scores=scores.get(index, dict.fromkeys(metrics, float("nan"))),
                    copy_scores=copies[index] if edit is not None else dict.fromkeys(image_metrics, float("nan")),
                )


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at ``size`` (width, height) by the rule of :data:`RESIZE_RULE`."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _samples(examples: Sequence[EditExample], edits: Sequence[EditedImage | None]) -> list[_Sample]:
    return [
        _sample(example, edit.image, edit.expressive_instruction)
        for example, edit in zip(examples, edits, strict=True)
        if edit is not None
    ]


def _sample(example: EditExample, prediction: Image.Image, text: str) -> _Sample:
    assert example.target is not None  # checked for the whole batch
    return _Sample(example, example.target, fit(prediction, example.target.size), text)


def _score(samples: Sequence[_Sample], metrics: Mapping[str, SampleMetric]) -> list[Scores]:
    """Scores of each sample, in order; images are stacked where they have one size."""
    scores: list[Scores] = [{} for _ in samples]
    for indices in _groups(samples):
        inputs = _inputs([samples[index] for index in indices])
        for name, metric in metrics.items():
            values = metric.score(**inputs.select(metric.needs)).tolist()
            if len(values) != len(indices):
                raise ValueError(f"{name}: expected {len(indices)} scores, one a sample, got {len(values)}")
            for index, value in zip(indices, values, strict=True):
                scores[index][name] = value
    return scores


def _groups(samples: Sequence[_Sample]) -> Iterator[list[int]]:
    by_size: dict[tuple[int, int], list[int]] = {}
    for index, sample in enumerate(samples):
        by_size.setdefault(sample.target.size, []).append(index)
    for (width, height), indices in by_size.items():
        count = max(1, _PIXELS_AT_ONCE // (width * height))
        yield from (indices[first : first + count] for first in range(0, len(indices), count))


def _inputs(samples: Sequence[_Sample]) -> MetricInputs:
    examples = [sample.example for sample in samples]
    return MetricInputs(
        sample_ids=[example.sample_id for example in examples],
        pred_images=[sample.prediction for sample in samples],
        target_images=[sample.target for sample in samples],
        source_images=[fit(sample.example.source, sample.target.size) for sample in samples],
        masks=[_fit_mask(sample) for sample in samples],
        instructions=[example.instruction for example in examples],
        captions=[example.caption for example in examples],
        pred_texts=[sample.text for sample in samples],
        target_texts=[example.expressive_instruction for example in examples],
    )


def _fit_mask(sample: _Sample) -> Image.Image | None:
    mask = sample.example.mask
    return mask and mask.resize(sample.target.size, Image.Resampling.NEAREST)


def _check_targets(examples: Sequence[EditExample]) -> None:
    without = [example.sample_id for example in examples if example.target is None]
    if without:
        raise DataError(
            f"{without[0]}: expected a target image to score against, got none ({len(without)} of {len(examples)} "
            "samples of this batch); leave rows without a target out, or edit them with `mgie edit --batch`"
        )
