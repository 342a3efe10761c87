"""Random numbers of one example, from its address alone: no state, so any worker can make any example."""

from __future__ import annotations

import numpy as np

SPLITS = ("train", "val", "test")
_INDEX_BITS = 48  # the upper bits of the second key word hold the split


def example_rng(seed: int, split: str, index: int) -> np.random.Generator:
    """Generator of the example ``(seed, split, index)``: Philox keyed by the address (Salmon et al., 2011).

    Args:
        seed: Of the data set, in ``[0, 2**64)``.
        split: One of ``SPLITS``.
        index: Position within the split, in ``[0, 2**48)``.

    Returns:
        A new generator; the same address gives the same numbers.

    >>> float(example_rng(0, "train", 3).random()) == float(example_rng(0, "train", 3).random())
    True
    """
    key = np.array([seed, SPLITS.index(split) << _INDEX_BITS | index], dtype=np.uint64)
    return np.random.Generator(np.random.Philox(key=key))
