"""From an answer to a row."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.derivers import Answer
from mgie_lit.prepare.expressive.requests import Requests

from .conftest import FakeDeriver, recipe


class Shortener:
    """Keeps the first so many words."""

    def __init__(self, count: int) -> None:
        self.count = count

    def check(self) -> None:
        """Nothing to look at."""

    def settings(self, device: torch.device) -> dict[str, Any]:
        return {"count": self.count}

    def load(self, device: torch.device) -> None:
        """Nothing to read."""

    def summarise(self, paragraphs: list[str]) -> list[str]:
        return [" ".join(text.split()[: self.count]) for text in paragraphs]


def one(requests: Requests, answer: Answer, **changes: Any) -> dict[str, Any]:  # noqa: ANN401
    class One(FakeDeriver):
        def answer(self, *_: object) -> list[Answer]:
            return [answer]

    return recipe(One(), **changes).rows(requests, [0], "hash")[0]


def test_summary(requests: Requests) -> None:
    row = one(requests, Answer("The sky is red. Bright. More.", True), summariser=Shortener(3))
    assert (row["answer"], row["cleaned"], row["expressive_instruction"], row["flags"]) == (
        "The sky is red. Bright. More.", "The sky is red. Bright.", "The sky is", []
    )  # fmt: skip


def test_empty_summary(requests: Requests) -> None:
    row = one(requests, Answer("The sky is red.", True), summariser=Shortener(0))
    assert (row["expressive_instruction"], row["flags"]) == ("The sky is red.", ["empty_summary"])


@pytest.mark.parametrize(("on_empty", "text"), [("instruction", "make it red"), ("nothing", "")])
def test_empty_answer(requests: Requests, on_empty: str, text: str) -> None:
    row = one(requests, Answer(" </s>", True), on_empty=on_empty, summariser=Shortener(3))
    assert (row["cleaned"], row["expressive_instruction"], row["flags"]) == ("", text, ["empty"])


def test_unfinished_answer(requests: Requests) -> None:
    row = one(requests, Answer("The sky is red. And then", False))
    assert (row["cleaned"], row["flags"]) == ("The sky is red. And then.", ["unfinished"])


def test_cut_instruction(requests: Requests) -> None:
    deriver = FakeDeriver()
    deriver.max_instruction_length = 5  # type: ignore[attr-defined]
    assert recipe(deriver).rows(requests, [0], "hash")[0]["flags"] == ["cut_instruction"]


def test_too_little_memory(requests: Requests) -> None:
    class Full(FakeDeriver):
        def answer(self, *_: object) -> list[Answer]:
            raise torch.OutOfMemoryError("CUDA out of memory")

    with pytest.raises(ConfigError, match=r"expressive\.batch_size: .* fits the device's memory, got 2; lower it"):
        recipe(Full()).rows(requests, [0], "hash")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, r"expressive\.batch_size: expected at least 1, got 0"),
        ({"on_empty": "stop"}, r"expressive\.on_empty: expected instruction or nothing, got stop"),
    ],
)
def test_recipe_that_makes_no_sense(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recipe(**changes)
