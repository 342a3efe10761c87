"""Edits and repairs of photographs."""

from __future__ import annotations

import numpy as np
import pytest

from mgie_lit.data.photo_edits.crops import CropPool
from mgie_lit.data.photo_edits.expressive import REPAIR_SENTENCES, parse_expressive
from mgie_lit.data.photo_edits.operations import BRIGHT_ABOVE, DARK_BELOW, FINE_RANGE, GLOBAL_OPERATIONS, exposure
from mgie_lit.data.photo_edits.pairs import PairRequest
from mgie_lit.data.photo_edits.photos import EDITS, FAULTS, make_edit, make_repair, spoil
from mgie_lit.data.photo_edits.pixels import luma, to_bytes, to_float
from mgie_lit.errors import DataError


def _request(operation: str, pool: CropPool, turn: int | None, seed: int = 0) -> PairRequest:
    return PairRequest(operation, pool, np.random.default_rng(seed), turn)


@pytest.mark.parametrize("operation", EDITS)
def test_target_is_the_operation_of_the_source(operation: str, pool: CropPool) -> None:
    for turn in (0, None):
        pair = make_edit(_request(operation, pool, turn))
        assert np.array_equal(pair.target, to_bytes(EDITS[operation](to_float(pair.source))))
        assert pair.meaning == operation
        assert parse_expressive(pair.expressive) == operation


def test_only_training_varies_the_photograph(pool: CropPool) -> None:
    known = {crop.tobytes() for crop in pool.pixels}
    assert make_edit(_request("darker", pool, turn=5)).source.tobytes() in known
    assert make_edit(_request("darker", pool, turn=None)).source.tobytes() not in known


@pytest.mark.parametrize("strength", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("fault", ["dark", "bright"])
def test_exposure_faults_are_seen_as_such(pool: CropPool, fault: str, strength: float) -> None:
    for crops in pool.well_exposed:
        for crop in crops[:6]:
            image = to_float(pool.pixels[crop])
            assert exposure(image) == "fine"
            assert exposure(to_float(to_bytes(spoil(image, fault, strength=strength)))) == fault


def test_casts_and_fading_leave_their_mark(pool: CropPool) -> None:
    image = to_float(pool.pixels[pool.well_exposed[3][0]])
    red, blue = image[..., 0].mean(), image[..., 2].mean()
    for fault, sign in (("orange", 1), ("blue", -1)):
        cast = spoil(image, fault, strength=0.5)
        assert sign * ((cast[..., 0].mean() - cast[..., 2].mean()) - (red - blue)) > 0.1
    assert float(luma(spoil(image, "faded", strength=0.5)).std()) < 0.5 * float(luma(image).std())


@pytest.mark.parametrize("operation", FAULTS)
def test_repair_gives_back_the_photograph(operation: str, pool: CropPool) -> None:
    known = {crop.tobytes() for crop in pool.pixels}
    sentences = set()
    for seed in range(40):
        pair = make_repair(_request(operation, pool, turn=seed, seed=seed))
        assert pair.target.tobytes() in known
        assert FINE_RANGE[0] <= float(luma(to_float(pair.target)).mean()) <= FINE_RANGE[1]
        assert np.abs(pair.source.astype(int) - pair.target).mean() > 5
        assert parse_expressive(pair.expressive) == pair.meaning
        sentences.add(pair.expressive)
    assert sentences == {REPAIR_SENTENCES[fault][0] for fault in FAULTS[operation]}


def test_the_same_words_need_different_edits(pool: CropPool) -> None:
    levels = {}
    for seed in range(20):
        pair = make_repair(_request("fix_exposure", pool, turn=0, seed=seed))
        levels[pair.meaning] = float(luma(to_float(pair.source)).mean())
    assert levels["brighter"] < DARK_BELOW
    assert levels["darker"] > BRIGHT_ABOVE


def test_no_well_exposed_photograph(pool: CropPool) -> None:
    nothing = tuple(crops[:0] for crops in pool.members)
    night = CropPool(pool.pixels, pool.owner, pool.names, pool.members, nothing)
    with pytest.raises(DataError, match=r"fix_exposure: expected well exposed photographs.*data\.reader\.families"):
        make_repair(_request("fix_exposure", night, turn=0))


def test_ten_global_edits_differ(pool: CropPool) -> None:
    image = to_float(pool.pixels[0])
    results = {to_bytes(edit(image)).tobytes() for edit in GLOBAL_OPERATIONS.values()}
    assert len(results) == len(GLOBAL_OPERATIONS)
