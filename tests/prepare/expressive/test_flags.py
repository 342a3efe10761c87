"""What is noted of an answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.cleaning import Cleaning
from mgie_lit.prepare.expressive.flags import COPY, NO_SENTENCE, REFUSAL, REPETITION, TOO_LONG, FlagRules, words_of

RULES = FlagRules(max_words=30, refusals=["I'm sorry"])


def flags_of(answer: str, instruction: str = "make it red", rules: FlagRules = RULES) -> list[str]:
    cleaning = Cleaning()
    return rules(cleaning(answer), instruction=instruction, sentences=cleaning.sentences(answer))


@pytest.mark.parametrize(
    ("answer", "flags"),
    [
        ("The sky over the sea turns red.", []),
        ("The sky over the sea turns red", [NO_SENTENCE]),
        ("Red sky.", [NO_SENTENCE]),
        ("A very very very red sky.", []),
        ("A very very very very red sky.", [REPETITION]),
        ("The red of the sky, the red of the sea and the blue wood.", []),
        ("It is a red sky and it is a red sea and it is a red wood.", [REPETITION]),
        ("A sky that is as red as the sea. A sky that is as red as the wood.", [REPETITION]),
        ("A sky that is as red as it was. A sky that is as blue as it was.", []),
        ("Red a, red b, red a and b red, blue a, blue b, a red a, b blue, a blue and red b.", [REPETITION]),
        ("Make it RED!", [COPY]),
        ("Please make it red now.", [COPY]),
        ("You make it red all over.", []),
        ("I\u2019m sorry, I see no picture.", [REFUSAL]),
        ("I see " + ", ".join(f"thing{number}" for number in range(30)) + ".", [TOO_LONG]),
        ("空が夕焼けで赤く染まる。", []),
        ("赤赤赤赤い空になる。", [REPETITION]),
    ],
)  # fmt: skip
def test_rules(answer: str, flags: list[str]) -> None:
    assert flags_of(answer) == flags


def test_refusal_that_the_summary_hides() -> None:
    rules = FlagRules(refusals=["i'm sorry"])
    assert rules("A red sky is seen.", instruction="x", sentences=["I'm sorry, no.", "A sky."]) == [REFUSAL]


@given(st.text(), st.text())
def test_any_text_can_be_judged(answer: str, instruction: str) -> None:
    assert set(flags_of(answer, instruction)) <= {NO_SENTENCE, REPETITION, COPY, REFUSAL, TOO_LONG}


def test_words() -> None:
    assert words_of("The dog's 2 self-made (red) 犬です, o\u2019clock!") == [
        *("the", "dog's", "2", "self-made", "red", "犬", "で", "す", "o\u2019clock")
    ]


def test_limit_below_one() -> None:
    with pytest.raises(ConfigError, match=r"expressive\.flags\.max_words: expected at least 1, got 0"):
        FlagRules(max_words=0)
