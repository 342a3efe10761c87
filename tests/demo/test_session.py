from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import pytest

from mgie_lit.demo.requests import Edit, EditRequest, parse_seeds, real_number, whole_number
from mgie_lit.demo.session import EditSession
from mgie_lit.errors import ConfigError


def edit(name: str) -> Edit:
    return Edit(EditRequest(Path("source.png"), name, "tiny"), Path(f"{name}.png"), name.upper(), 0.1)


def names(session: EditSession) -> list[str]:
    return [made.request.instruction for made in session.edits]


def test_add_show_undo() -> None:
    session = EditSession(max_turns=9)
    assert session.current is None
    assert session.undo() is None
    for name in "abc":
        session.add(edit(name))
        assert session.current == session.edits[-1]
    session.show(0)
    assert session.current == edit("a")
    session.show(7)
    assert session.current == edit("a")
    assert session.undo() == edit("c")
    assert (names(session), session.current) == (["a", "b"], edit("b"))
    session.undo()
    session.undo()
    assert (session.edits, session.current) == ([], None)


def test_oldest_edits_make_room() -> None:
    session = EditSession(max_turns=2)
    for name in "abc":
        session.add(edit(name))
    assert (names(session), session.current) == (["b", "c"], edit("c"))


def test_sessions_are_apart() -> None:
    template = EditSession(max_turns=2)
    mine = deepcopy(template)  # as Gradio does for every page
    mine.add(edit("a"))
    assert template.edits == []


@pytest.mark.parametrize(("text", "seeds"), [("0", (0,)), ("0, 1,2", (0, 1, 2)), ("3 3,1", (3, 1))])
def test_seeds(text: str, seeds: tuple[int, ...]) -> None:
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", ",", "a", "-1", "1.5", "²"])
def test_seeds_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError, match="Seeds: expected whole numbers with commas between"):
        parse_seeds(text)


@pytest.mark.parametrize("value", [None, "3", True, float("nan"), float("inf"), [1]])
def test_numbers_that_are_none(value: object) -> None:
    with pytest.raises(ConfigError, match="Steps: expected a number, got"):
        real_number("Steps", value)


def test_whole_numbers() -> None:
    assert whole_number("Steps", 4.0) == 4
    with pytest.raises(ConfigError, match=r"Steps: expected a whole number, got 4\.5"):
        whole_number("Steps", 4.5)
