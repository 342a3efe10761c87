"""Drawn scenes, object edits and their masks."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from mgie_lit.data.photo_edits.ambiguous import OPERATIONS as AMBIGUOUS_OPERATIONS
from mgie_lit.data.photo_edits.ambiguous import make_relational_edit
from mgie_lit.data.photo_edits.crops import CropPool
from mgie_lit.data.photo_edits.expressive import parse_expressive
from mgie_lit.data.photo_edits.pairs import EditPair, PairRequest
from mgie_lit.data.photo_edits.scenes import OPERATIONS, Scene, color_values, draw_scene, make_object_edit
from mgie_lit.data.photo_edits.shapes import COLORS, OPPOSITES, coverage

EVERY = [(make_object_edit, name) for name in OPERATIONS] + [
    (make_relational_edit, name) for name in AMBIGUOUS_OPERATIONS
]


def _scenes(pool: CropPool, count: int = 60) -> list[Scene]:
    return [draw_scene(np.random.default_rng(seed), pool) for seed in range(count)]


def _pair(make: object, operation: str, pool: CropPool, seed: int) -> EditPair:
    return make(PairRequest(operation, pool, np.random.default_rng(seed), None))  # type: ignore[operator, no-any-return]


def test_scenes_are_clear(pool: CropPool) -> None:
    counts = set()
    for scene in _scenes(pool):
        shapes = scene.shapes
        counts.add(len(shapes))
        assert len({shape.kind for shape in shapes}) == len(shapes)
        assert len({shape.color for shape in shapes} | {scene.background_color}) == len(shapes) + 1
        assert all(small.area <= 0.7 * large.area for large, small in itertools.pairwise(shapes))
    assert counts == {2, 3, 4}


def test_shapes_never_touch_or_leave_the_picture(pool: CropPool) -> None:
    for scene in _scenes(pool):
        covers = [coverage(shape, 64)[..., 0] > 0 for shape in scene.shapes]
        assert np.sum(covers, axis=0).max() == 1
        assert all(
            cover.mean() == pytest.approx(shape.area, rel=0.6)
            for cover, shape in zip(covers, scene.shapes, strict=True)
        )
        outside = [cover[0].any() or cover[-1].any() or cover[:, 0].any() or cover[:, -1].any() for cover in covers]
        assert not any(outside)


def test_backgrounds_of_all_three_kinds(pool: CropPool) -> None:
    scenes = _scenes(pool)
    assert {bool(scene.background_color) for scene in scenes} == {True, False}
    assert all(scene.background.dtype == np.float32 for scene in scenes)
    assert all(scene.background.min() >= 0 and scene.background.max() <= 1 for scene in scenes)


@pytest.mark.parametrize(("make", "operation"), EVERY)
def test_nothing_changes_outside_the_mask(make: object, operation: str, pool: CropPool) -> None:
    for seed in range(25):
        pair = _pair(make, operation, pool, seed)
        assert pair.mask is not None
        changed = (pair.source != pair.target).any(axis=-1)
        masked = pair.mask > 0
        assert set(np.unique(pair.mask)) == {0, 255}
        assert not (changed & ~masked).any()
        assert changed.sum() > 0.7 * masked.sum() * (0.5 if operation == "swap" else 1.0)


@pytest.mark.parametrize(("make", "operation"), EVERY)
def test_sentence_says_what_was_done(make: object, operation: str, pool: CropPool) -> None:
    for seed in range(25):
        pair = _pair(make, operation, pool, seed)
        assert parse_expressive(pair.expressive) == pair.meaning


def _inner_color(picture: np.ndarray, mask: np.ndarray | None) -> list[int]:
    """The most frequent colour below the mask."""
    assert mask is not None
    values, counts = np.unique(picture[mask > 0], axis=0, return_counts=True)
    return list(map(int, values[counts.argmax()]))


def test_recolor_paints_the_named_color(pool: CropPool) -> None:
    for seed in range(20):
        pair = _pair(make_object_edit, "recolor", pool, seed)
        assert _inner_color(pair.target, pair.mask) == list(COLORS[pair.meaning.split()[2]])
        assert _inner_color(pair.source, pair.mask) != _inner_color(pair.target, pair.mask)


def test_removal_shows_the_background(pool: CropPool) -> None:
    for seed in range(20):
        request = PairRequest("remove", pool, np.random.default_rng(seed), None)
        scene = draw_scene(np.random.default_rng(seed), pool)
        pair = make_object_edit(request)
        below = np.rint(scene.background * 255).astype(int)
        assert pair.mask is not None
        assert np.abs(pair.target.astype(int) - below)[pair.mask > 0].max() <= 1


def test_background_is_filled_with_the_named_color(pool: CropPool) -> None:
    for seed in range(20):
        pair = _pair(make_object_edit, "background", pool, seed)
        color = pair.meaning.split()[1]
        assert np.abs(pair.target[0, 0] / 255 - color_values(color)).max() < 0.01


def test_swap_moves_both_colors(pool: CropPool) -> None:
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), pool)
        pair = _pair(make_object_edit, "swap", pool, seed)
        by_kind = {shape.kind: shape for shape in scene.shapes}
        first, second = (by_kind[kind] for kind in pair.meaning.split()[1:])
        for shape, other in ((first, second), (second, first)):
            quarters = [tuple(slice(32 * int(part * 2), 32 * int(part * 2) + 32) for part in place.center[::-1])
                        for place in (shape, other)]  # fmt: skip
            own, others = ((pair.target[quarter] == COLORS[shape.color]).all(axis=-1).sum() for quarter in quarters)
            assert others > 20
            assert own == 0 or (scene.background_color == "" and own < 20)


def test_swapped_shapes_stay_whole(pool: CropPool) -> None:
    for seed in range(40):
        scene = draw_scene(np.random.default_rng(seed), pool)
        pair = _pair(make_object_edit, "swap", pool, seed)
        for shape in scene.shapes:
            before, after = (
                (picture == COLORS[shape.color]).all(axis=-1).sum() for picture in (pair.source, pair.target)
            )
            if scene.background_color:
                assert abs(int(before) - int(after)) <= 0.2 * before + 4


def test_largest_is_removed(pool: CropPool) -> None:
    for seed in range(20):
        scene = draw_scene(np.random.default_rng(seed), pool)
        pair = _pair(make_relational_edit, "remove_largest", pool, seed)
        sizes = {shape.kind: float(coverage(shape, 64).sum()) for shape in scene.shapes}
        assert pair.meaning == f"remove {max(sizes, key=lambda kind: sizes[kind])}"


def test_opposite_color(pool: CropPool) -> None:
    for seed in range(20):
        pair = _pair(make_relational_edit, "opposite_color", pool, seed)
        old = next(name for name, value in COLORS.items() if list(value) == _inner_color(pair.source, pair.mask))
        assert pair.meaning.split()[2] == OPPOSITES[old]
        assert _inner_color(pair.target, pair.mask) == list(COLORS[OPPOSITES[old]])
