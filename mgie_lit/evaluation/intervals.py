"""Bootstrap intervals of means over samples that are not independent of each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

LEVEL = 0.95
NUM_DRAWS = 2000
_BLOCK = 2**22  # drawn indices in memory at once


@dataclass(frozen=True)
class Bootstrap:
    """How the intervals are drawn.

    Units (sessions) are drawn with replacement, each with all its rows, and the mean over the drawn rows is taken.
    Where all rows are of one session there is nothing to draw from: then samples are the units.
    """

    num_draws: int = NUM_DRAWS
    seed: int = 0
    level: float = LEVEL  # probability mass inside the interval

    def intervals(self, values: NDArray[np.float64], units: Sequence[str]) -> NDArray[np.float64]:
        """Percentile intervals of the mean of each column.

        All columns see the same draws. For a paired comparison pass the differences as a column.

        Args:
            values: ``(rows, columns)``; NaN = not scored, left out of the mean.
            units: For each row the name of the unit that it belongs to.

        Returns:
            ``(2, columns)``: lower and upper end; NaN for a column with scores of fewer than two units, which say
            nothing about others.
        """
        means = bootstrap_means(values, units, num_draws=self.num_draws, seed=self.seed)
        tail = 100.0 * (1.0 - self.level) / 2.0
        ends = np.full((2, values.shape[1]), np.nan)
        names = np.asarray(units)
        for column in range(values.shape[1]):
            scored = means[:, column][~np.isnan(means[:, column])]
            if len(set(names[~np.isnan(values[:, column])])) > 1:
                ends[:, column] = np.percentile(scored, [tail, 100.0 - tail])
        return ends

    def describe(self, unit: str, units: Sequence[str]) -> dict[str, object]:
        """Plain values for the protocol; ``unit`` says what is drawn."""
        return {
            "method": "percentile bootstrap of the mean",
            "unit": unit,
            "num_units": len(set(units)),
            "num_draws": self.num_draws,
            "seed": self.seed,
            "level": self.level,
        }


def choose_units(session_ids: Sequence[str], sample_ids: Sequence[str]) -> tuple[str, list[str]]:
    """What is drawn in the bootstrap: sessions, or samples where there is a single session.

    A row without a session (``""``) is its own; rows of one sample under several seeds stay together.

    >>> choose_units(["chat", "chat", ""], ["a", "b", "c"])
    ('session', ['session chat', 'session chat', 'sample c'])
    """
    units = [
        f"session {session}" if session else f"sample {sample}"
        for session, sample in zip(session_ids, sample_ids, strict=True)
    ]
    if len(set(units)) > 1:
        return "session", units
    return "sample (all rows are of one session)", [f"sample {sample}" for sample in sample_ids]


def bootstrap_means(
    values: NDArray[np.float64], units: Sequence[str], *, num_draws: int, seed: int
) -> NDArray[np.float64]:
    """Means of the columns under resampling of whole units.

    Args:
        values: ``(rows, columns)``; NaN = not scored.
        units: Name of each row's unit.
        num_draws: Number of resamples, at least 1.
        seed: Of the draws.

    Returns:
        ``(num_draws, columns)``; NaN where a draw has no score in a column.

    Raises:
        ValueError: There are no rows, or not one unit name a row.
    """
    if not len(values) or len(values) != len(units):
        raise ValueError(
            f"bootstrap: expected at least one row and one unit a row, got {len(values)} rows and {len(units)} units"
        )
    _, row_units = np.unique(np.asarray(units), return_inverse=True)
    num_units = int(row_units.max()) + 1
    scored = ~np.isnan(values)
    sums = np.zeros((num_units, values.shape[1]))
    counts = np.zeros_like(sums)
    np.add.at(sums, row_units, np.where(scored, values, 0.0))
    np.add.at(counts, row_units, scored)

    rng = np.random.default_rng(seed)
    means = np.empty((num_draws, values.shape[1]))
    block = max(1, _BLOCK // num_units)
    for first in range(0, num_draws, block):
        size = min(block, num_draws - first)
        drawn = rng.integers(num_units, size=(size, num_units)) + num_units * np.arange(size)[:, None]
        times = np.bincount(drawn.ravel(), minlength=size * num_units).reshape(size, num_units).astype(np.float64)
        with np.errstate(invalid="ignore"):
            means[first : first + size] = (times @ sums) / (times @ counts)
    return means
