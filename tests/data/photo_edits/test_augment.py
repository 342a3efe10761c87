"""Training augmentation."""

from __future__ import annotations

import numpy as np
import pytest

from mgie_lit.data.photo_edits.augment import Augmentation, augment, draw_augmentation

NOTHING = Augmentation(flip=False, channel_order=None, saturation=1.0, gamma=1.0, gains=(1.0, 1.0, 1.0), lift=0.0)


def _crop() -> np.ndarray:
    crop = np.random.default_rng(0).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    crop.flags.writeable = False
    return crop


def _change(**changes: object) -> Augmentation:
    return Augmentation(**{field: getattr(NOTHING, field) for field in NOTHING.__slots__} | changes)


def test_neutral_draw_changes_nothing() -> None:
    assert np.array_equal(augment(_crop(), NOTHING), _crop())


def test_flip_and_channel_order_are_exact() -> None:
    changed = augment(_crop(), _change(flip=True, channel_order=(2, 0, 1)))
    assert np.array_equal(changed, _crop()[:, ::-1][..., [2, 0, 1]])


@pytest.mark.parametrize(
    ("changes", "factor"),
    [({"gamma": 2.0}, -1), ({"gamma": 0.5}, 1), ({"lift": 0.05}, 1), ({"gains": (0.8, 0.8, 0.8)}, -1)],
)
def test_light_moves_as_named(changes: dict[str, object], factor: int) -> None:
    difference = augment(_crop(), _change(**changes)).mean() - _crop().mean()
    assert difference * factor > 5


def test_saturation_pulls_to_gray() -> None:
    def spread(crop: np.ndarray) -> float:
        return float(np.ptp(crop.astype(float), axis=-1).mean())

    assert spread(augment(_crop(), _change(saturation=0.4))) < 0.5 * spread(_crop())


def test_draws_cover_their_ranges() -> None:
    rng = np.random.default_rng(1)
    draws = [draw_augmentation(rng) for _ in range(2000)]
    assert 0.45 < np.mean([draw.flip for draw in draws]) < 0.55
    orders = {draw.channel_order for draw in draws}
    assert len(orders) == 6
    assert 0.45 < np.mean([draw.channel_order is None for draw in draws]) < 0.55
    assert 0.44 < min(draw.gamma for draw in draws) < 0.47
    assert 3.2 < max(draw.gamma for draw in draws) < 3.33
    assert all(0.4 <= draw.saturation <= 1.6 and abs(draw.lift) <= 0.05 for draw in draws)
    assert all(0.8 <= gain <= 1.2 for draw in draws for gain in draw.gains)
