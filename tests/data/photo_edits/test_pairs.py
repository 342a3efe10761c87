"""Which crop is edited."""

from __future__ import annotations

from collections import Counter

import numpy as np

from mgie_lit.data.photo_edits.crops import CropPool
from mgie_lit.data.photo_edits.pairs import PairRequest, choose_crop

LISTS = (np.arange(0, 5), np.arange(5, 12))


def test_photographs_take_turns_and_crops_do_not_repeat(pool: CropPool) -> None:
    rng = np.random.default_rng(0)
    chosen = [choose_crop(PairRequest("darker", pool, rng, turn, seed=4), LISTS) for turn in range(14)]
    assert all(crop in LISTS[turn % 2] for turn, crop in enumerate(chosen))
    assert set(chosen[::2][:5]) == set(range(5))
    assert set(chosen[1::2]) == set(range(5, 12))


def test_training_takes_any_crop_alike(pool: CropPool) -> None:
    rng = np.random.default_rng(0)
    counts = Counter(choose_crop(PairRequest("darker", pool, rng, None), LISTS) for _ in range(6000))
    assert set(counts) == set(range(12))
    assert min(counts.values()) > 400
