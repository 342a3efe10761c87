"""Shapes and their coverage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from mgie_lit.data.photo_edits.expressive import COLOR_NAMES, SHAPE_NAMES
from mgie_lit.data.photo_edits.shapes import COLORS, OPPOSITES, OUTLINES, Shape, coverage


def test_words_and_drawings_agree() -> None:
    assert set(OUTLINES) == set(SHAPE_NAMES)
    assert set(COLORS) == set(COLOR_NAMES) == set(OPPOSITES)


def test_opposites_are_mutual() -> None:
    for color, opposite in OPPOSITES.items():
        assert OPPOSITES[opposite] == color
        assert np.abs(255 - np.array(COLORS[color]) - np.array(COLORS[opposite])).max() <= 60


@pytest.mark.parametrize("kind", SHAPE_NAMES)
@pytest.mark.parametrize("angle", [0.0, 0.3])
def test_coverage_has_the_area_asked_for(kind: str, angle: float) -> None:
    shape = Shape(kind, "red", (0.503, 0.496), area=0.06, angle=angle)
    cover = coverage(shape, 64)
    assert cover.shape == (64, 64, 1)
    assert float(cover.mean()) == pytest.approx(0.06, rel=0.08)
    assert 0.0 <= cover.min() < cover.max() <= 1.0
    assert ((cover > 0) & (cover < 1)).any(), "edges are smooth"


@pytest.mark.parametrize("kind", SHAPE_NAMES)
def test_coverage_stays_within_the_radius(kind: str) -> None:
    shape = Shape(kind, "red", (0.4, 0.6), area=0.05, angle=0.2)
    y, x = np.nonzero(coverage(shape, 128)[..., 0])
    distance = np.hypot((x + 0.5) / 128 - 0.4, (y + 0.5) / 128 - 0.6)
    assert distance.max() <= shape.radius + 1.5 / 128


def test_outlines_lie_on_the_unit_circle() -> None:
    assert all(max(math.hypot(x, y) for x, y in corners) == pytest.approx(1.0) for corners in OUTLINES.values())
