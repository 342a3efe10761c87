"""Renaming by the beginning of a name, and back."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

Value = TypeVar("Value")
_NOT_WEIGHTS = re.compile(r"(?:.*\.)?(?:rotary_emb\.inv_freq|position_ids)")  # buffers that the config gives


@dataclass(frozen=True)
class Format:
    """How one published format calls the tensors of a part.

    Args:
        name: For messages.
        to_ours: Name in the format -> ours. None = not a weight of ours, to be passed over; a name that the format does
            not know comes back unchanged, so that it turns up as unexpected.
        from_ours: Our name -> the format's.
    """

    name: str
    to_ours: Callable[[str], str | None]
    from_ours: Callable[[str], str]

    def rename(self, tensors: Mapping[str, Value]) -> dict[str, Value]:
        """Tensors by our names, in the same order, without what is passed over."""
        ours = {name: self.to_ours(name) for name in tensors}
        return {own: tensors[name] for name, own in ours.items() if own is not None}


def replace_prefix(name: str, prefixes: Sequence[tuple[str, str]]) -> str:
    """``name`` with the first prefix that fits replaced; unchanged where none does.

    >>> replace_prefix("lm_head.weight", [("model.", "a."), ("lm_head.", "b.")])
    'b.weight'
    """
    for old, new in prefixes:
        if name.startswith(old):
            return new + name.removeprefix(old)
    return name


def is_weight(name: str) -> bool:
    """False for buffers that old checkpoints hold though the config determines them."""
    return _NOT_WEIGHTS.fullmatch(name) is None
