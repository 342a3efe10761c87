"""What is kept of an answer."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.cleaning import Cleaning, ends_sentence, one_line, split_sentences

PIECES = st.sampled_from(
    [
        "ASSISTANT:",
        "</s>",
        "Alternative",
        "[IMG0]",
        ". ",
        "...",
        "…",
        "。",
        "\uff01",
        "e.g. ",
        "\n",
        "\0",
        '."',
        " ",
        "3.5",
        "A",
    ]
)
TEXTS = st.one_of(st.text(), st.lists(st.one_of(PIECES, st.text(max_size=5))).map("".join))


@pytest.mark.parametrize(
    ("answer", "kept"),
    [
        ("", ""),
        (" \n\t ", ""),
        ("...", ""),
        ("?! -- '", ""),
        ("A red sky", "A red sky."),
        ("A red sky,", "A red sky."),
        ("A red sky! It glows? It is late.", "A red sky! It glows?"),
        ("One. Two. Three.", "One. Two."),
        ("A chat. USER: make it red ASSISTANT: The sky is red.</s> more", "The sky is red."),
        ("ASSISTANT: red. ASSISTANT: blue.", "red. ASSISTANT: blue."),
        ("The sky. ALTERNATIVELY, the sea.", "The sky."),
        ("A sky. One alternative is the sea.", "A sky."),
        ("A sky with an alternative colour.", "A sky with an."),
        ("Red sky [IMG0] [IMG1]", "Red sky."),
        ("</s>The sky.", ""),
        ("ASSISTANT:", ""),
        ("Dr. Li and J. Smith add 3.5 stops. The U.S. flag, e.g. on St. Mary, is red. More.",
         "Dr. Li and J. Smith add 3.5 stops. The U.S. flag, e.g. on St. Mary, is red."),
        ("Trees, lamps, etc. are red. More. And.", "Trees, lamps, etc. are red. More."),
        ("Trees, lamps, etc. The sky is red. More.", "Trees, lamps, etc. The sky is red."),
        ("Well... it is red. Well... It is. More.", "Well... it is red. Well..."),
        ("1. The sky is red. 2. The sea is blue. 3. Late.", "1. The sky is red. 2. The sea is blue."),
        ('He says "it is red." It is (very bright.) More.', 'He says "it is red." It is (very bright.)'),
        ("it is red. it is bright. more.", "it is red. it is bright."),
        ("空は赤い。海は青い\uff01森は緑。", "空は赤い。 海は青い\uff01"),
        ("आकाश लाल है। समुद्र नीला है। वन।", "आकाश लाल है। समुद्र नीला है।"),
        ("السماء حمراء؟ البحر أزرق. الغابة.", "السماء حمراء؟ البحر أزرق."),
        ("Южный город", "Южный город."),
        ("red\r\n\u2028sky\0 is\x07 nice.", "red sky is nice."),
        ("\ud800 is half a letter", "\ud800 is half a letter."),
        ("42", "42."),
    ],
)  # fmt: skip
def test_rule(answer: str, kept: str) -> None:
    assert Cleaning()(answer) == kept


@given(TEXTS, st.integers(1, 3))
@settings(max_examples=50, deadline=None)
@example("İ" * 5 + "alternative", 2)  # a letter that grows when it is made small
def test_any_text_gives_one_line_of_sentences_or_nothing(answer: str, num_sentences: int) -> None:
    kept = Cleaning(num_sentences=num_sentences)(answer)
    assert kept == one_line(kept)
    assert not kept or (ends_sentence(kept) and any(map(str.isalnum, kept)))
    assert "</s>" not in kept
    assert "[IMG0]" not in kept
    assert "alternative" not in kept.lower().replace("i\u0307", "i")
    assert len(Cleaning(num_sentences=num_sentences).sentences(answer)) <= num_sentences


@given(TEXTS)
def test_no_letter_is_lost_between_sentences(text: str) -> None:
    line = one_line(text)
    assert "".join("".join(split_sentences(line)).split()) == "".join(line.split())


def test_marks_and_number_are_settings() -> None:
    cleaning = Cleaning(after=["Answer:", "So:"], until=["STOP"], num_sentences=1)
    assert cleaning("Q. Answer: Hm. So: The alternative sky. Red. STOP") == "The alternative sky."
    assert Cleaning(after=(), until=())("ASSISTANT: one</s>.") == "ASSISTANT: one</s>."


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_sentences": 0}, r"expressive\.cleaning\.num_sentences: expected at least 1, got 0"),
        ({"after": ["a", ""]}, r"expressive\.cleaning\.after: expected a list of texts, none of them empty"),
        ({"until": [3]}, r"expressive\.cleaning\.until: expected a list of texts, none of them empty, got \[3\]"),
    ],
)
def test_settings_that_make_no_sense(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Cleaning(**settings)  # type: ignore[arg-type]
