"""What is edited together: single samples, or the turns of a session one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mgie_lit.data.readers import EditDataset

Unit = tuple[int, ...]  # indices into a data set, in order of the turns


class _Turn(Protocol):
    """What a row says of its place in a session."""

    @property
    def session_id(self) -> str:
        """Name of the session; "" = its own."""

    @property
    def turn(self) -> int:
        """Position within the session, from 1."""


@runtime_checkable
class KnowsRows(Protocol):
    """A data set that knows session and turn of an example without opening its images."""

    def row(self, index: int) -> _Turn:
        """The annotation of the example at ``index``."""
        ...


def make_units(dataset: EditDataset, turns: str) -> list[Unit]:
    """Indices that have to be worked on one after the other.

    Args:
        dataset: For chains its turns are read; images are opened only where it does not know them otherwise.
        turns: ``given``: every sample is its own. ``chain``: the turns of a session belong together.

    Returns:
        Every index once; units in order of their first sample.

    Raises:
        DataError: A session of a chain lacks a turn or has one twice.
    """
    if turns == "given":
        return [(index,) for index in range(len(dataset))]
    sessions: dict[str, list[tuple[int, int]]] = {}
    for index in range(len(dataset)):
        place: _Turn = dataset.row(index) if isinstance(dataset, KnowsRows) else dataset[index]
        sessions.setdefault(place.session_id or f"\0{index}", []).append((place.turn, index))
    return [_ordered(session, places) for session, places in sessions.items()]


def _ordered(session: str, places: Sequence[tuple[int, int]]) -> Unit:
    turns = sorted(turn for turn, _ in places)
    if turns != list(range(1, len(turns) + 1)) and not session.startswith("\0"):
        raise DataError(
            f"turns: expected turns 1, 2, ... of session {session} for a chain, got {', '.join(map(str, turns))}; "
            "evaluate whole sessions (data.num_examples may cut one), or use turns=given"
        )
    return tuple(index for _, index in sorted(places))
