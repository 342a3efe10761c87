"""The families of edits: which operations belong together, and what makes their pairs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.data.photo_edits import ambiguous, scenes
from mgie_lit.data.photo_edits.operations import DETAIL_OPERATIONS, GLOBAL_OPERATIONS
from mgie_lit.data.photo_edits.photos import FAULTS, make_edit, make_repair

if TYPE_CHECKING:
    from collections.abc import Callable

    from mgie_lit.data.photo_edits.pairs import EditPair, PairRequest


@dataclass(frozen=True, slots=True)
class Family:
    """Operations that share a way of making pairs."""

    operations: tuple[str, ...]
    make: Callable[[PairRequest], EditPair]
    drawn: bool  # scenes, not photographs: the pairs are independent of each other


FAMILIES: dict[str, Family] = {
    "global": Family(tuple(GLOBAL_OPERATIONS), make_edit, drawn=False),
    "detail": Family(tuple(DETAIL_OPERATIONS), make_edit, drawn=False),
    "tone": Family(tuple(FAULTS), make_repair, drawn=False),
    "scene": Family(scenes.OPERATIONS, scenes.make_object_edit, drawn=True),
    "ambiguous_scene": Family(ambiguous.OPERATIONS, ambiguous.make_relational_edit, drawn=True),
}
