from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest

from mgie_lit.errors import DataError
from mgie_lit.evaluation.units import make_units

if TYPE_CHECKING:
    from collections.abc import Callable

    from mgie_lit.types import EditExample
    from tests.evaluation.conftest import ToyDataset


@dataclass
class Place:
    session_id: str
    turn: int


def with_turns(make_dataset: Callable[..., Any], *places: tuple[str, int]) -> ToyDataset:
    dataset = make_dataset(*range(len(places)))
    for index, (session, turn) in enumerate(places):
        dataset.examples[index] = replace(dataset.examples[index], session_id=session, turn=turn)
    return dataset


def test_given_turns_are_units_of_their_own(make_dataset: Callable[..., Any]) -> None:
    assert make_units(with_turns(make_dataset, ("a", 1), ("a", 2)), "given") == [(0,), (1,)]


def test_turns_of_a_chain_are_ordered(make_dataset: Callable[..., Any]) -> None:
    dataset = with_turns(make_dataset, ("a", 2), ("b", 1), ("a", 1), ("", 1), ("", 1))
    assert make_units(dataset, "chain") == [(2, 0), (1,), (3,), (4,)]


def test_rows_are_read_in_place_of_images(make_dataset: Callable[..., Any]) -> None:
    class Rows(type(make_dataset())):  # type: ignore[misc]
        def row(self, index: int) -> Place:
            return Place("chat", 2 - index)

        def __getitem__(self, index: int) -> EditExample:
            raise AssertionError("an image was opened")

    assert make_units(Rows(make_dataset(1, 2).examples), "chain") == [(1, 0)]


@pytest.mark.parametrize("turns", [(1, 3), (1, 1), (2, 3)])
def test_sessions_have_to_be_whole(make_dataset: Callable[..., Any], turns: tuple[int, int]) -> None:
    dataset = with_turns(make_dataset, *(("a", turn) for turn in turns))
    found = ", ".join(map(str, turns))
    with pytest.raises(
        DataError, match=rf"turns: expected turns 1, 2, ... of session a for a chain, got {found}; eval"
    ):
        make_units(dataset, "chain")
