from __future__ import annotations

import pytest

from mgie_lit.prepare.check.texts import absurdity


@pytest.mark.parametrize(
    "text",
    [
        "make it brighter",
        "warmer!",
        "augmente la luminosité",
        "明るくして",
        "make\nit\tblue",
        "add 2 dogs",
        "X",
        "it's 3:2 now",
    ],
)
def test_words_of_any_language_are_fine(text: str) -> None:
    assert absurdity(text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        (" \n ", "empty"),
        ("ab " * 400, "too long: 1200 characters, expected at most 1000: 'ab ab"),
        ("make it \x00 red", "control characters: 'make it \\x00 red'"),
        ("caf\ufffd", "damaged: characters that could not be decoded"),
        ("...?!", "only punctuation: '...?!'"),
        ("👍", "only punctuation"),
        ("NaN", "no words: 'NaN'"),
        (" none ", "no words"),
        ("12345", "no words: '12345'"),
    ],
)
def test_absurd_texts(text: str, fault: str) -> None:
    found = absurdity(text)
    assert found is not None
    assert found.startswith(fault)


def test_limit_counts_characters() -> None:
    assert absurdity("abcde", max_length=5) is None
    assert absurdity("abcdef", max_length=5) == "too long: 6 characters, expected at most 5: 'abcdef'"
