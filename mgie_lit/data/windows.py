"""Batches that know of the other batches of their optimizer step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader

from mgie_lit.types import EditBatch, EditExample
from mgie_lit.vocabulary import IGNORE_INDEX


class WindowedLoader(DataLoader[EditExample]):
    """A loader whose batches carry the mean number of labels over the ``window`` batches of their optimizer step.

    With it a mean over all labels of the step is a mean over batches: each divides its own sum by the same number, and
    the trainer averages over the batches. A step at the end of an epoch may have fewer batches; the trainer divides by
    ``window`` all the same, so the batches of that step say by how much their loss falls short.

    Args:
        *args: Of ``DataLoader``.
        window: Batches of an optimizer step; 1 = as they come.
        finish: What is done to a batch after it has come from a loader process; None = nothing.
        **kwargs: Of ``DataLoader``; the collator gives ``EditBatch``.
    """

    def __init__(
        self,
        *args: Any,  # noqa: ANN401
        window: int = 1,
        finish: Callable[[EditBatch], EditBatch] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(*args, **kwargs)
        self.window = window
        self.finish = finish

    def __iter__(self) -> Iterator[EditBatch]:  # type: ignore[override]
        """Batches in order; those of a step are read before its first one is given."""
        batches: Iterator[EditBatch] = super().__iter__()
        batches = batches if self.finish is None else map(self.finish, batches)
        return batches if self.window == 1 else _with_label_mean(batches, self.window)


def _with_label_mean(batches: Iterator[EditBatch], window: int) -> Iterator[EditBatch]:
    while step := list(islice(batches, window)):
        total = sum(int((batch.labels != IGNORE_INDEX).sum()) for batch in step)
        for batch in step:
            yield replace(batch, labels_per_batch=torch.tensor(total / len(step)), step_scale=window / len(step))
