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
SOURCE_CAPTION = "source_caption"  # attribute of an example that describes its source, for clip_direction
_PIXELS_AT_ONCE = 2**22  # in the tensors of one group; bounds memory for large images

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
    source: Image.Image  # of the target's size
    target: Image.Image
    prediction: Image.Image  # of the target's size; the very `source` where a copy is scored
    text: str


class Scorer:
    """Scores of edits and of copies by a set of metrics; their own state stays as it is.

    Args:
        metrics: Name in tables -> metric; only :meth:`SampleMetric.score` is called.
    """

    def __init__(self, metrics: Mapping[str, SampleMetric]) -> None:
        self.metrics = metrics
        self.image_metrics = {name: metric for name, metric in metrics.items() if metric.scores_images}

    def copies(self, examples: Sequence[EditExample]) -> list[Scores]:
        """Scores of the sources in place of edits.

        Args:
            examples: With a target.

        Returns:
            An example each, in order; image metrics only.

        Raises:
            DataError: An example has no target.
        """
        _check_targets(examples)
        return _score([_sample(example, None, "") for example in examples], self.image_metrics)

    def edits(
        self,
        examples: Sequence[EditExample],
        edits: Sequence[EditedImage | None],
        copies: Sequence[Scores],
        *,
        seed: int,
    ) -> list[ScoredEdit]:
        """Scores of edits, an example each.

        Args:
            examples: With a target.
            edits: What a system made of them.
            copies: From :meth:`copies`.
            seed: Of the edits.

        Returns:
            In the order of the examples; without scores where there is no edit.

        Raises:
            ValueError: There is not one edit an example.
        """
        if len(edits) != len(examples):
            raise ValueError(f"system: expected {len(examples)} edited images, one an example, got {len(edits)}")
        made = [index for index, edit in enumerate(edits) if edit is not None]
        scores = dict(zip(made, _score(_samples(examples, edits), self.metrics), strict=True))
        return [
            ScoredEdit(
                example=example,
                seed=seed,
                edited=edit,
                scores=scores.get(index, dict.fromkeys(self.metrics, float("nan"))),
                copy_scores=copies[index] if edit is not None else dict.fromkeys(self.image_metrics, float("nan")),
            )
            for index, (example, edit) in enumerate(zip(examples, edits, strict=True))
        ]


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
    scorer = Scorer(metrics)
    for examples in batches:
        copies = scorer.copies(examples)
        for seed in seeds:
            yield from scorer.edits(examples, system(examples, seed=seed), copies, seed=seed)


def fit(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """The image at ``size`` (width, height) by the rule of :data:`RESIZE_RULE`."""
    return image if image.size == size else image.resize(size, Image.Resampling.BICUBIC)


def _samples(examples: Sequence[EditExample], edits: Sequence[EditedImage | None]) -> list[_Sample]:
    return [
        _sample(example, edit.image, edit.expressive_instruction)
        for example, edit in zip(examples, edits, strict=True)
        if edit is not None
    ]


def _sample(example: EditExample, prediction: Image.Image | None, text: str) -> _Sample:
    """What is scored; no prediction = the source."""
    assert example.target is not None  # checked for the whole batch
    size = example.target.size
    source = fit(example.source, size)
    return _Sample(example, source, example.target, source if prediction is None else fit(prediction, size), text)


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
        source_images=[sample.source for sample in samples],
        masks=[_fit_mask(sample) for sample in samples],
        instructions=[example.instruction for example in examples],
        captions=[example.caption for example in examples],
        pred_texts=[sample.text for sample in samples],
        target_texts=[example.expressive_instruction for example in examples],
        source_captions=[example.attributes.get(SOURCE_CAPTION) for example in examples],
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
