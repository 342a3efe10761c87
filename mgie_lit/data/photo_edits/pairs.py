"""What the families of edits are asked for, and what they give back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from mgie_lit.data.photo_edits.crops import CropPool
    from mgie_lit.data.photo_edits.pixels import ByteImage


@dataclass(frozen=True, slots=True)
class PairRequest:
    """One pair to make."""

    operation: str
    pool: CropPool
    rng: np.random.Generator  # of this example alone
    turn: int | None  # None draws at random (training); else the position in the balanced order of photographs
    seed: int = 0  # where a photograph's list of crops starts


@dataclass(frozen=True, slots=True)
class EditPair:
    """One pair, still as arrays."""

    source: ByteImage  # (R, R, 3)
    target: ByteImage  # (R, R, 3)
    expressive: str
    meaning: str  # what ``parse_expressive`` reads in ``expressive``
    mask: NDArray[np.uint8] | None = None  # (R, R), 255 = changed; None = everywhere
    slots: Mapping[str, str] = field(default_factory=dict)  # for the request's template
    photograph: str = ""  # "" = drawn


def choose_crop(request: PairRequest, lists: tuple[NDArray[np.intp], ...]) -> int:
    """Index of the crop to edit: any at random, or the next one of the photograph whose turn it is.

    In the balanced order the photographs take turns, and each goes through its own crops without repeating one before
    all were used.

    Args:
        request: Its ``turn`` decides between the two.
        lists: Crops that may be used, a list a photograph, none of them empty.

    Returns:
        Position in the pool.
    """
    if request.turn is None:
        sizes = [len(crops) for crops in lists]
        position = int(request.rng.integers(sum(sizes)))
        for crops, size in zip(lists, sizes, strict=True):
            if position < size:
                return int(crops[position])
            position -= size
    turn = request.turn or 0
    crops = lists[turn % len(lists)]
    start = 17 * request.seed + 7 * sum(map(ord, request.operation))  # operations begin at different crops
    return int(crops[(start + turn // len(lists)) % len(crops)])
