"""Suggestions for mistyped names."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_MAX_SUGGESTIONS = 3
_NEAR, _LOOSE = 0.75, 0.55  # likeness in [0, 1]: surely meant; perhaps meant, where nothing is nearer
_MARGIN = 0.1  # names that are this much less like the word than the best one are not worth showing


def nearest_names(name: str, known: Iterable[str]) -> list[str]:
    """Up to three of ``known`` that ``name`` may have meant, best first.

    Dotted names are compared whole and by their last part, so that ``lr`` finds ``optimizer.lr``.

    >>> nearest_names("lr", ["optimizer.lr", "trainer.max_steps"])
    ['optimizer.lr']
    >>> nearest_names("trainer.max_step", ["optimizer.lr", "trainer.max_steps"])
    ['trainer.max_steps']
    """
    candidates = list(dict.fromkeys(known))
    last_part = name.rpartition(".")[2]
    same_end = [candidate for candidate in candidates if candidate.rpartition(".")[2] == last_part]
    likeness = {candidate: difflib.SequenceMatcher(None, name, candidate).ratio() for candidate in candidates}
    near = [candidate for candidate in candidates if likeness[candidate] >= _NEAR]
    loose = [candidate for candidate in candidates if likeness[candidate] >= _LOOSE]
    best_first = sorted(near or same_end or loose, key=lambda candidate: -likeness[candidate])
    return [name for name in best_first if likeness[name] > likeness[best_first[0]] - _MARGIN][:_MAX_SUGGESTIONS]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``"; did you mean a or b?"``, or nothing where no known name is near.

    >>> did_you_mean("mgei", ["mgie", "lgie", "copy"])
    '; did you mean mgie?'
    """
    names = nearest_names(name, known)
    return f"; did you mean {' or '.join(names)}?" if names else ""
