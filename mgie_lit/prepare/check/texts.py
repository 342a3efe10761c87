"""Texts that nobody can have meant as an instruction."""

from __future__ import annotations

import unicodedata

MAX_LENGTH = 1000  # characters; the longest request in the published sets has fewer than 600
_BLANKS = "\t\n\r"  # control characters that annotators type
_NO_TEXTS = frozenset({"nan", "none", "null", "n/a", "undefined", "[object object]", "lorem ipsum"})
_SHOWN = 60  # characters of a text in a message
_DAMAGE = "\ufffd"  # stands where bytes could not be decoded


def absurdity(text: str, *, max_length: int = MAX_LENGTH) -> str | None:
    """What is wrong with a text.

    Args:
        text: An instruction, as the owners wrote it.
        max_length: Characters; a longer one is no instruction.

    Returns:
        The fault in words, or None.

    >>> absurdity("make it ... brighter!") is None, absurdity(" ?! ")
    (True, "only punctuation: ' ?! '")
    """
    shown = repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "...")
    if not text.strip():
        return "empty"
    if len(text) > max_length:
        return f"too long: {len(text)} characters, expected at most {max_length}: {shown}"
    if _DAMAGE in text:
        return f"damaged: characters that could not be decoded: {shown}"
    if any(unicodedata.category(letter) == "Cc" and letter not in _BLANKS for letter in text):
        return f"control characters: {shown}"
    if not any(letter.isalnum() for letter in text):
        return f"only punctuation: {shown}"
    if text.strip().lower() in _NO_TEXTS or not any(letter.isalpha() for letter in text):
        return f"no words: {shown}"
    return None
