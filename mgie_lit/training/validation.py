"""Losses of a validation that processes share: kept while it runs, put together at its end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from mgie_lit.training.gathering import gather
from mgie_lit.types import EditLosses

LOSSES = ("loss", "loss_edit", "loss_lm", "loss_align")


class ValidationLosses:
    """Losses of batches by what is in them: it does not matter which process had a batch, or whether two had it."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] = ()
        self._batches: dict[tuple[str, ...], Tensor] = {}  # sample ids -> a loss a name, on its device

    def clear(self) -> None:
        """Begin anew."""
        self._batches.clear()

    def add(self, sample_ids: Sequence[str], losses: EditLosses) -> None:
        """Keep the losses of a batch; nothing is waited for."""
        self._names = tuple(name for name in LOSSES if getattr(losses, name) is not None)
        self._batches[tuple(sample_ids)] = torch.stack([getattr(losses, name).detach() for name in self._names])

    def means(self) -> dict[str, float]:
        """Means over the samples of all processes; all of them have to call this.

        The sum is exact before it is rounded, so that the means do not depend on who had which batch.
        """
        own = {ids: values.double().tolist() for ids, values in self._batches.items()}
        batches = {ids: values for part in gather(own) for ids, values in part.items()}
        count = sum(map(len, batches))
        sums = (
            math.fsum(len(ids) * value for ids, value in zip(batches, column, strict=True))
            for column in zip(*batches.values(), strict=True)
        )
        return dict(zip(self._names, (total / count for total in sums), strict=True)) if batches else {}
