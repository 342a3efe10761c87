"""What can be wrong with an expressive instruction, by rules that need no model."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.cleaning import ends_sentence

if TYPE_CHECKING:
    from collections.abc import Sequence

EMPTY, EMPTY_SUMMARY = "empty", "empty_summary"
UNFINISHED, NO_SENTENCE, REPETITION = "unfinished", "no_sentence", "repetition"
COPY, REFUSAL, TOO_LONG, CUT_INSTRUCTION = "copy", "refusal", "too_long", "cut_instruction"
MEANINGS = {
    EMPTY: "nothing was left of the answer",
    EMPTY_SUMMARY: "the summariser wrote nothing; the cleaned answer stands in",
    UNFINISHED: "the model was stopped at max_new_tokens",
    NO_SENTENCE: "no end mark of the model's own, or under three words",
    REPETITION: "words or phrases go round in circles",
    COPY: "the instruction again, with at most two more words",
    REFUSAL: "the model says that it can not answer",
    TOO_LONG: "more words than max_words",
    CUT_INSTRUCTION: "only the beginning of the instruction was asked about",
}

# Scripts without blanks between words (kana, Han, Hangul, Thai) count a letter as a word.
_UNSPACED = "\u0e00-\u0e7f\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+(?:['\u2019-][^\W_{_UNSPACED}]+)*")
_APOSTROPHE = "\u2019"
_MIN_WORDS = 3
_PHRASES = ((4, 3), (8, 2))  # a phrase of so many words so often
_IN_A_ROW = 4  # a word so often
_LONG, _MIN_DISTINCT = 20, 0.3  # in a text of so many words, at least this share of them is new


@dataclass(frozen=True)
class FlagRules:
    """Limits of what passes without a flag.

    Args:
        max_words: Longest expressive instruction, at least 1.
        refusals: Phrases with which the model declines; case and the kind of apostrophe do not matter.

    Raises:
        ConfigError: ``max_words`` is below 1.
    """

    max_words: int = 64
    refusals: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.max_words < 1:
            raise ConfigError(f"expressive.flags.max_words: expected at least 1, got {self.max_words}")

    def __call__(self, text: str, *, instruction: str, sentences: Sequence[str]) -> list[str]:
        """Flags of a text that is not empty.

        Args:
            text: The expressive instruction.
            instruction: The human's words.
            sentences: What was kept of the answer, before a full stop was added.

        Returns:
            Some of ``NO_SENTENCE``, ``REPETITION``, ``COPY``, ``REFUSAL``, ``TOO_LONG``.
        """
        words, asked = words_of(text), words_of(instruction)
        said = " ".join([*sentences, text]).replace(_APOSTROPHE, "'").lower()
        found = {
            NO_SENTENCE: len(words) < _MIN_WORDS or not any(map(ends_sentence, sentences)),
            REPETITION: is_repetitive(words) or is_repetitive(words_of(" ".join(sentences))),
            COPY: is_copy(words, asked),
            REFUSAL: any(phrase.replace(_APOSTROPHE, "'").lower() in said for phrase in self.refusals),
            TOO_LONG: len(words) > self.max_words,
        }
        return [flag for flag, is_so in found.items() if is_so]


def words_of(text: str) -> list[str]:
    """Words in small letters, without punctuation.

    >>> words_of("The sky's red-ish, 3 times! 赤い")
    ['the', "sky's", 'red-ish', '3', 'times', '赤', 'い']
    """
    return _WORD.findall(text.lower())


def is_repetitive(words: Sequence[str]) -> bool:
    """Whether words go round in circles.

    Args:
        words: From :func:`words_of`.

    Returns:
        True if a word stands four times in a row, a phrase of four words three times, one of eight words twice, or a
        text of 20 words or more has fewer than 30 % different ones.
    """
    count = len(words)
    if any(len(set(words[first : first + _IN_A_ROW])) == 1 for first in range(count - _IN_A_ROW + 1)):
        return True
    for size, times in _PHRASES:
        phrases = Counter(tuple(words[first : first + size]) for first in range(count - size + 1))
        if max(phrases.values(), default=0) >= times:
            return True
    return count >= _LONG and len(set(words)) < _MIN_DISTINCT * count


def is_copy(words: Sequence[str], instruction: Sequence[str]) -> bool:
    """Whether a text is the instruction with at most two words around it."""
    size = len(instruction)
    if not size or len(words) > size + 2:
        return False
    return any(list(words[first : first + size]) == list(instruction) for first in range(len(words) - size + 1))
