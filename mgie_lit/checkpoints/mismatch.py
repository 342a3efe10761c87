"""One message for everything that does not fit between the tensors that are there and those that are needed."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from mgie_lit.checkpoints.lazy import LazyTensors
from mgie_lit.errors import CheckpointError

Shapes = Mapping[str, tuple[int, ...]]
_NUMBER = re.compile(r"(?<![A-Za-z0-9])\d+(?=\.|$)")  # a layer's index, and no digit of a word such as linear1


@dataclass(frozen=True)
class Fit:
    """What a part needs beside what there is for it.

    Args:
        part: For the message, e.g. ``mllm``.
        expected: Shapes by our names.
        found: Tensors by our names.
        spell: Our name -> what the source calls it, for tensors that are missing from it.
    """

    part: str
    expected: Shapes
    found: LazyTensors
    spell: Callable[[str], str] = str

    def missing(self) -> dict[str, str]:
        """Name in the source -> "", of what is needed and not there."""
        return {self.spell(name): "" for name in self.expected if name not in self.found}

    def unexpected(self) -> dict[str, str]:
        """Name in the source -> its shape, of what is there and not needed."""
        return {lazy.name: f" {lazy.shape}" for name, lazy in self.found.items() if name not in self.expected}

    def misshaped(self) -> dict[str, str]:
        """Name in the source -> its shape and the right one."""
        return {
            lazy.name: f" has shape {lazy.shape} instead of {self.expected[name]}"
            for name, lazy in self.found.items()
            if name in self.expected and lazy.shape != self.expected[name]
        }


def check_fit(source: object, fits: Iterable[Fit]) -> None:
    """Whether all tensors that are needed are there, no others, and in the right shapes.

    Args:
        source: Where they come from, for the message.
        fits: One for each part.

    Raises:
        CheckpointError: Something does not fit; one message lists everything, by kind and part, layers together.
    """
    fits = list(fits)
    lines: list[str] = []
    for kind, of in (("missing", Fit.missing), ("unexpected", Fit.unexpected), ("wrong shape", Fit.misshaped)):
        groups = {fit.part: of(fit) for fit in fits if of(fit)}
        if groups:
            lines.append(f"{kind} ({sum(map(len, groups.values()))}):")
        for part, names in groups.items():
            lines += [f"  {part}: {line}" for line in _by_pattern(names)]
    if lines:
        raise CheckpointError(
            "\n".join([f"{source}: the tensors do not fit the model; is it the right source, and whole?", *lines])
        )


def _by_pattern(names: Mapping[str, str]) -> list[str]:
    """Names with their notes; names that differ in layer numbers only share a line."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name, note in names.items():
        groups.setdefault((_NUMBER.sub("*", name), note), []).append(name)
    return [(group[0] if len(group) == 1 else _shared_line(group)) + note for (_, note), group in groups.items()]


def _shared_line(names: list[str]) -> str:
    """``layers.{0-3,5}.bias (5)``; where numbers are not combined in all ways, the names follow."""
    columns = [sorted(set(column)) for column in zip(*(map(int, _NUMBER.findall(name)) for name in names), strict=True)]
    numbers = iter(columns)
    pattern = _NUMBER.sub(lambda _: _ranges(next(numbers)), names[0])
    total = math.prod(map(len, columns))
    return f"{pattern} ({total})" if total == len(names) else f"{pattern} ({len(names)} of {total}): {', '.join(names)}"


def _ranges(numbers: list[int]) -> str:
    """``[0, 1, 2, 5]`` -> ``{0-2,5}``; a single number stands as it is."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    texts = [str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs]
    return texts[0] if len(numbers) == 1 else "{" + ",".join(texts) + "}"
