"""What is kept of a model's answer: pure functions that take any text."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CLOSING = "\"')\\]}\u2019\u201d\u00bb\u203a\u300d\u300f"  # quotes and brackets
_OPENING = "([\"'\u2018\u201c"
_DASHES = "-\u2013\u2014"
# Latin, Devanagari, Arabic, Urdu, Armenian and Ethiopic end marks want a blank after them ("3.5", "e.g"), Chinese and
# Japanese ones do not.
_SPACED_ENDS = ".!?\u2026\u0964\u0965\u061f\u06d4\u0589\u1362"
_UNSPACED_ENDS = "\u3002\uff01\uff1f\uff0e\uff61"
_END = re.compile(rf"(?:[{_SPACED_ENDS}]+[{_CLOSING}]*(?=\s|$))|(?:[{_UNSPACED_ENDS}]+[{_CLOSING}]*)")
_ENDS_WITH_MARK = re.compile(rf"[{_SPACED_ENDS}{_UNSPACED_ENDS}][{_CLOSING}]*$")
# A name or a number follows these.
_NEVER_LAST = {"mr", "mrs", "ms", "dr", "prof", "st", "vs", "e.g", "i.e", "cf", "fig", "approx", "ca", "no"}
_SELDOM_LAST = {"etc", "al", "inc", "ltd", "jr", "sr", "u.s", "a.m", "p.m"}  # last only where a capital follows


@dataclass(frozen=True)
class Cleaning:
    """How an answer becomes a short paragraph.

    1. What stands before the first mark of ``after`` goes, and the mark with it (the model repeats the conversation).
    2. Everything from the first mark of ``until`` on goes; case does not matter.
    3. Control characters and runs of blanks become one blank.
    4. The first ``num_sentences`` sentences stay. If step 2 broke a sentence off and a whole one stands before it, the
       broken one goes.
    5. A text without an end mark gets a full stop; one without a letter or digit becomes empty.

    Args:
        after: Marks of a beginning; the ones that are not there do nothing.
        until: Marks of an end.
        num_sentences: How many sentences are kept, at least 1.

    Raises:
        ConfigError: ``num_sentences`` is below 1, or a mark is empty.
    """

    after: Sequence[str] = ("ASSISTANT:",)
    until: Sequence[str] = ("</s>", "alternative", "[IMG0]")
    num_sentences: int = 2

    def __post_init__(self) -> None:
        if self.num_sentences < 1:
            raise ConfigError(f"expressive.cleaning.num_sentences: expected at least 1, got {self.num_sentences}")
        for name in ("after", "until"):
            if not all(isinstance(mark, str) and mark for mark in getattr(self, name)):
                raise ConfigError(
                    f"expressive.cleaning.{name}: expected a list of texts, none of them empty, got "
                    f"{getattr(self, name)!r}; leave empty ones out"
                )

    def __call__(self, answer: str) -> str:
        """The part of an answer that describes the result.

        Args:
            answer: Any text.

        Returns:
            At most ``num_sentences`` sentences on one line with an end mark; "" where there is nothing.

        >>> Cleaning()("USER: hi ASSISTANT: The sky turns red. It glows.  It is late. Alternatively, ...")
        'The sky turns red. It glows.'
        >>> Cleaning()("A red sky. An alternative is a green one.")
        'A red sky.'
        """
        text = " ".join(self.sentences(answer))
        if not any(map(str.isalnum, text)):
            return ""
        return text if ends_sentence(text) else text.rstrip(f" ,;:{_DASHES}") + "."

    def sentences(self, answer: str) -> list[str]:
        """The sentences that are kept, as the model wrote them; the last one may lack its end mark."""
        text, is_cut = self._cut(answer)
        sentences = list(split_sentences(one_line(text)))
        if is_cut and len(sentences) > 1 and not ends_sentence(sentences[-1]):
            sentences.pop()
        return sentences[: self.num_sentences]

    def _cut(self, answer: str) -> tuple[str, bool]:
        """The text between the marks, and whether its end was cut off."""
        for mark in self.after:
            answer = answer.partition(mark)[2] if mark in answer else answer
        first = min(
            (found.start() for mark in self.until if (found := re.search(re.escape(mark), answer, re.IGNORECASE))),
            default=None,
        )
        return answer[:first], first is not None


def one_line(text: str) -> str:
    """Text without control characters and line breaks, single blanks between words."""
    return " ".join("".join(" " if unicodedata.category(letter) == "Cc" else letter for letter in text).split())


def ends_sentence(text: str) -> bool:
    """Whether a text ends with an end mark of any script, inside quotes or not."""
    return _ENDS_WITH_MARK.search(text) is not None


def split_sentences(text: str) -> Iterator[str]:
    """Sentences of a text on one line; joined by blanks they give it back, but for blanks after Chinese full stops.

    An end mark ends no sentence after an abbreviation or initial, inside a number, or where no letter came before it
    (``1. First``); dots in a row end none if a small letter follows.

    Args:
        text: Any text on one line.

    Yields:
        Sentences without blanks around them; what follows the last end mark comes last.

    >>> list(split_sentences("Dr. Li adds 3.5 stops... or so. It is bright! Good"))
    ['Dr. Li adds 3.5 stops... or so.', 'It is bright!', 'Good']
    """
    start = 0
    for mark in _END.finditer(text):
        sentence = text[start : mark.end()].strip()
        if _is_end(sentence, mark.group(), text[mark.end() :].lstrip()[:1]):
            yield sentence
            start = mark.end()
    if rest := text[start:].strip():
        yield rest


def _is_end(sentence: str, mark: str, following: str) -> bool:
    if not any(map(str.isalpha, sentence)):
        return False
    if not following:
        return True
    if mark[0] != ".":
        return True
    if mark.startswith(".."):
        return not following.islower()
    word = sentence[: len(sentence) - len(mark)].rpartition(" ")[2].lstrip(_OPENING).lower()
    if word in _NEVER_LAST or (len(word) == 1 and word.isalpha() and word != "i"):
        return False
    return not (word in _SELDOM_LAST and not following.isupper())
