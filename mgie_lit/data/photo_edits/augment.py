"""Variation of training crops: colours and light that the few photographs do not have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mgie_lit.data.photo_edits.pixels import luma, to_bytes, to_float

if TYPE_CHECKING:
    from mgie_lit.data.photo_edits.pixels import ByteImage

_CHANNEL_ORDERS = ((0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0))


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What one draw does to a crop, in the order of the fields."""

    flip: bool
    channel_order: tuple[int, int, int] | None  # None keeps RGB
    saturation: float  # factor
    gamma: float  # exponent; below 1 brightens
    gains: tuple[float, float, float]  # factors of R, G, B
    lift: float  # added to values in [0, 1]


def draw_augmentation(rng: np.random.Generator) -> Augmentation:
    """Draw one: flip and channel order each with probability 1/2, exposure from 0.45 to 3.3 as an exponent."""
    draws = rng.random(8).tolist()
    order = _CHANNEL_ORDERS[int(draws[1] * 2 * len(_CHANNEL_ORDERS))] if draws[1] < 0.5 else None
    return Augmentation(
        flip=draws[0] < 0.5,
        channel_order=order,
        saturation=0.4 + 1.2 * draws[2],
        gamma=math.exp((draws[3] - 0.4) * 2.0),
        gains=(0.8 + 0.4 * draws[4], 0.8 + 0.4 * draws[5], 0.8 + 0.4 * draws[6]),
        lift=0.1 * (draws[7] - 0.5),
    )


def augment(crop: ByteImage, augmentation: Augmentation) -> ByteImage:
    """The varied crop: ``(H, W, 3)`` uint8 in, a new array of the same shape out."""
    if augmentation.flip:
        crop = crop[:, ::-1]
    if augmentation.channel_order is not None:
        crop = np.take(crop, augmentation.channel_order, axis=-1)
    image = to_float(crop)
    gray = luma(image)
    image -= gray
    image *= np.float32(augmentation.saturation)
    image += gray
    np.clip(image, 0.0, 1.0, out=image)
    np.power(image, np.float32(augmentation.gamma), out=image)
    image *= np.array(augmentation.gains, dtype=np.float32)
    image += np.float32(augmentation.lift)
    return to_bytes(image)
