"""The base of all metrics: one score a sample, and their mean."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import Tensor
from torchmetrics import Metric

from mgie_lit.metrics.inputs import AVAILABLE, READS_PREDICTED_IMAGE

_STEPS = (2**20, 2**60)  # a score is added up as `coarse / 2^20 + fine / 2^60`


class SampleMetric(Metric):
    """A metric that is the mean of one score a sample.

    A new metric is a subclass with ``name``, ``higher_is_better``, where it reads more than ``preds`` and ``target``
    also ``needs``, and :meth:`score`. A score of NaN says that the metric does not apply to the sample (no mask, no
    reference text); such samples are left out of the mean and of ``n``.

    The mean is the same to the last bit for any split into batches and processes: scores are added up as whole numbers.
    """

    name: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ("preds", "target")  # attributes of MetricInputs, the arguments of `score`
    higher_is_better: bool
    is_differentiable: bool = False
    full_state_update: bool = False

    total: Tensor  # (2,) int64, sum of the scores in steps of 2^-20 and, below that, of 2^-60
    count: Tensor  # scalar int64, number of scores that are not NaN

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        unknown = sorted(set(cls.needs) - set(AVAILABLE))
        if unknown:
            raise ValueError(f"{cls.__name__}.needs: expected names out of {', '.join(AVAILABLE)}, got {unknown}")

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", torch.zeros(2, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("count", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    @property
    def scores_images(self) -> bool:
        """Whether the edited image is read, so that copying the source has a score too."""
        return bool(READS_PREDICTED_IMAGE.intersection(self.needs))

    @abstractmethod
    def score(self, *args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401 - each metric names its own
        """Score each sample.

        Args:
            *args: The attributes of :class:`MetricInputs` named in ``needs``, in that order.
            **kwargs: The same by name.

        Returns:
            ``(B,)`` float; NaN where the metric does not apply to the sample.
        """

    def describe(self) -> dict[str, object]:
        """What pins the metric down for another reader, as plain values for ``protocol`` in ``metrics.json``.

        Loads encoders, so that missing weights are known before anything is scored.
        """
        kind = type(self)
        return {"class": f"{kind.__module__}.{kind.__qualname__}", "higher_is_better": self.higher_is_better}

    def update(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Score a batch and add it to the mean."""
        scores = self.score(*args, **kwargs).detach().to(self.total.device, torch.float64)
        applies = ~scores.isnan()
        self.total += _whole_numbers(scores[applies]).sum(1)
        self.count += applies.sum()

    def compute(self) -> Tensor:
        """Mean score of all samples seen.

        Returns:
            Scalar float64.

        Raises:
            ValueError: No sample was scored since the metric was made or reset.
        """
        if not int(self.count):
            raise ValueError(f"{self.name}: expected at least one scored sample, got none; call update before compute")
        return (self.total.double() / self.total.new_tensor(_STEPS)).sum() / self.count


def _whole_numbers(scores: Tensor) -> Tensor:
    """Scores ``(N,)`` as coarse and fine whole numbers ``(2, N)``: their sums do not depend on the order.

    A float32 score of at least 2^-36 loses nothing; sums are safe up to 8 million scores of up to a million each.
    """
    coarse = (scores * _STEPS[0]).floor()
    fine = ((scores * _STEPS[0] - coarse) * (_STEPS[1] // _STEPS[0])).round()
    return torch.stack([coarse, fine]).to(torch.int64)
