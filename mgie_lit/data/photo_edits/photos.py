"""Families made from photographs: global edits, detail edits, and repairs that need a look at the photograph."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from mgie_lit.data.photo_edits.augment import augment, draw_augmentation
from mgie_lit.data.photo_edits.expressive import REPAIR_SENTENCES, SENTENCES
from mgie_lit.data.photo_edits.operations import (
    DETAIL_OPERATIONS,
    GLOBAL_OPERATIONS,
    channel_gains,
    contrast,
    gamma,
    negative,
    saturation,
)
from mgie_lit.data.photo_edits.pairs import EditPair, PairRequest, choose_crop
from mgie_lit.data.photo_edits.pixels import luma, to_bytes, to_float
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from mgie_lit.data.photo_edits.pixels import FloatImage

EDITS = GLOBAL_OPERATIONS | DETAIL_OPERATIONS
FAULTS = {"fix_exposure": ("dark", "bright"), "look_right": ("dark", "bright", "orange", "blue", "faded")}
_BISECTIONS = 8
DARK_LEVELS = (0.20, 0.12)  # mean luma of a photograph made too dark
BRIGHT_LEVELS = (0.72, 0.82)  # and of one made too bright


def make_edit(request: PairRequest) -> EditPair:
    """A photograph and its edited self; training varies the photograph first."""
    pool = request.pool
    crop = choose_crop(request, pool.members)
    source = pool.pixels[crop]
    if request.turn is None:
        source = augment(source, draw_augmentation(request.rng))
    target = to_bytes(EDITS[request.operation](to_float(source)))
    expressive = SENTENCES[request.operation]
    return EditPair(source, target, expressive, meaning=request.operation, photograph=pool.name(crop))


def make_repair(request: PairRequest) -> EditPair:
    """A photograph that was spoilt, and the photograph itself: what to do is seen only in the picture.

    Args:
        request: Its operation is a key of ``FAULTS``; training mirrors half of the photographs.

    Returns:
        The spoilt photograph as source, the crop itself as target; the expressive instruction names the fault.

    Raises:
        DataError: No photograph of the split is well exposed.
    """
    pool = request.pool
    lists = tuple(crops for crops in pool.well_exposed if len(crops))
    if not lists:
        raise DataError(
            f"{request.operation}: expected well exposed photographs, got only dark or bright ones "
            f"({', '.join(pool.names)}); add others, or set data.reader.families.tone=0"
        )
    crop = choose_crop(request, lists)
    target = pool.pixels[crop]
    if request.turn is None and request.rng.random() < 0.5:
        target = np.ascontiguousarray(target[:, ::-1])
    faults = FAULTS[request.operation]
    fault = faults[int(request.rng.integers(len(faults)))]
    source = to_bytes(spoil(to_float(target), fault, strength=float(request.rng.random())))
    expressive, meaning = REPAIR_SENTENCES[fault]
    return EditPair(source, target, expressive, meaning, photograph=pool.name(crop))


def spoil(image: FloatImage, fault: str, *, strength: float) -> FloatImage:
    """Give a well exposed photograph a fault.

    Args:
        image: ``(H, W, 3)`` in [0, 1].
        fault: ``dark``, ``bright``, ``orange``, ``blue`` or ``faded``.
        strength: In [0, 1], from clearly visible to strong.

    Returns:
        ``(H, W, 3)`` in [0, 1].
    """
    if fault == "dark":
        return gamma(image, _exponent(image, _between(DARK_LEVELS, strength)))
    if fault == "bright":  # between raised shadows and clipped highlights, so that neither is lost
        level, inverse = _between(BRIGHT_LEVELS, strength), negative(image)
        raised = gamma(image, _exponent(image, level))
        clipped = negative(gamma(inverse, _exponent(inverse, 1.0 - level)))
        return (raised + clipped) * np.float32(0.5)
    if fault == "faded":
        return saturation(contrast(image, 0.5 - 0.15 * strength), 0.6)
    cast = 0.25 + 0.15 * strength
    gains = (1.0 + cast, 1.0, 1.0 - 1.3 * cast)
    return channel_gains(image, gains if fault == "orange" else gains[::-1])


def _between(ends: tuple[float, float], share: float) -> float:
    return ends[0] + (ends[1] - ends[0]) * share


def _exponent(image: FloatImage, level: float) -> float:
    """Exponent that brings the mean luma to about ``level``, by bisection of its logarithm on every fourth pixel."""
    image = np.ascontiguousarray(image[::2, ::2])
    low, high = math.log(0.1), math.log(20.0)
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if float(luma(gamma(image, math.exp(middle))).mean()) > level:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)
