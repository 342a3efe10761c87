"""Metrics of the expressive instruction that a system writes."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mgie_lit.metrics.base import SampleMetric

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence


class ExpressiveExact(SampleMetric):
    """Share of expressive instructions equal to the data set's but for case, punctuation and blanks.

    Does not apply to samples without a reference; a system that writes nothing scores 0.
    """

    name: ClassVar[str] = "expressive_exact"
    needs: ClassVar[tuple[str, ...]] = ("pred_texts", "target_texts")
    higher_is_better = True

    def score(self, pred_texts: Sequence[str], target_texts: Sequence[str | None]) -> Tensor:
        """Two lists of ``B`` texts -> ``(B,)`` of 0 and 1; NaN without a reference."""
        pairs = zip(pred_texts, target_texts, strict=True)
        return _agreement((normalise_text(pred), target and normalise_text(target)) for pred, target in pairs)


class ExpressiveOperation(SampleMetric):
    """Share of expressive instructions that say the same operation as the data set's.

    Does not apply to samples whose reference is missing or not understood by the parser; a text of the system that
    the parser does not understand scores 0.

    Args:
        parser: From a text to the name of its operation, None where the text says none.
    """

    name: ClassVar[str] = "expressive_operation"
    needs: ClassVar[tuple[str, ...]] = ("pred_texts", "target_texts")
    higher_is_better = True

    def __init__(self, parser: Callable[[str], str | None]) -> None:
        super().__init__()
        self.parser = parser

    def score(self, pred_texts: Sequence[str], target_texts: Sequence[str | None]) -> Tensor:
        """Two lists of ``B`` texts -> ``(B,)`` of 0 and 1; NaN where the reference names no operation."""
        pairs = zip(pred_texts, target_texts, strict=True)
        return _agreement((self.parser(pred), target and self.parser(target)) for pred, target in pairs)

    def describe(self) -> dict[str, object]:
        """Adds the parser's name."""
        function = getattr(self.parser, "func", self.parser)  # a functools.partial has no name of its own
        kind = function if hasattr(function, "__qualname__") else type(function)
        return super().describe() | {"parser": f"{kind.__module__}.{kind.__qualname__}"}


def normalise_text(text: str) -> str:
    """A text without what does not change its meaning: case, punctuation, repeated and outer blanks.

    >>> normalise_text('  The Photo,  "brighter". ')
    'the photo brighter'
    """
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join(re.sub(r"[^\w\s]|_", " ", folded).split())


def _agreement(pairs: Iterable[tuple[str | None, str | None]]) -> Tensor:
    return torch.tensor([float(pred == target) if target else torch.nan for pred, target in pairs])
