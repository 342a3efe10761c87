"""Several data sets as one, each with a weight."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from torch.utils.data import Dataset

from mgie_lit.data.readers import SPLITS, KnowsExpressive, KnowsLengths, KnowsSizes, no_lengths, no_sizes, shared_splits
from mgie_lit.errors import ConfigError
from mgie_lit.types import EditExample

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mgie_lit.data.readers import EditDataset

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class MixturePart:
    """One data set of a mixture."""

    reader: Callable[..., EditDataset]  # called with `split`, `num_examples` and `option`
    weight: float | None = None  # share of the training examples, relative to the others'; None = its size


class Mixture(Dataset[EditExample]):
    """Training examples of several data sets in proportions that one chooses; validation and test examples of all.

    An epoch of training shows every example of every part at least once; parts that are small for their weight come
    several times. They are spread evenly, so the first examples of a mixture have its proportions. What stands at an
    index depends on weights and sizes alone. Ids are ``<part>-<id>``, with ``.2``, ``.3`` ... at the second, third ...
    time; ``attributes["dataset"]`` is the part's name.

    Args:
        split: ``train``, ``val`` or ``test``.
        num_examples: Use the first so many; None = all.
        parts: Name -> data set and weight. Either all weights are given or none.
        option: Config key of the mixture, for messages; its parts are told ``<option>.<name>``.

    Raises:
        ConfigError: There are no parts, or weights are missing or not above 0.
    """

    def __init__(
        self, split: str, num_examples: int | None = None, *, parts: Mapping[str, MixturePart], option: str = "data"
    ) -> None:
        if split not in SPLITS:
            raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}; use one of these")
        if num_examples is not None and num_examples < 1:
            raise ConfigError(
                f"{option}.num_examples.{split}: expected at least 1 example, or null for all, got {num_examples}"
            )
        weights = _checked_weights(parts, option)
        self.names = list(parts)
        self.datasets = [
            part.reader(split=split, num_examples=None, option=f"{option}.{name}") for name, part in parts.items()
        ]
        sizes = [len(dataset) for dataset in self.datasets]
        slots = sizes if weights is None or split != "train" else slots_of(sizes, weights)
        order = interleave(slots) if split == "train" else np.repeat(np.arange(len(slots)), slots)
        # How often each part came before an index: its own next example.
        turns = np.empty(len(order), np.int64)
        for part, count in enumerate(slots):
            turns[order == part] = np.arange(count)
        self._parts = order[:num_examples].astype(np.int16)
        self._turns = turns[:num_examples]

    def __len__(self) -> int:
        """Number of examples, repeated ones included."""
        return len(self._parts)

    def sample_id(self, index: int) -> str:
        """Id of the example at ``index``; no image is opened."""
        part, row, time = self._place(index)
        return self._name(part, self.datasets[part].sample_id(row), time)

    def __getitem__(self, index: int) -> EditExample:
        """The example at ``index``.

        Args:
            index: In ``[0, len)``; negative ones are not counted from the end.

        Returns:
            The part's example under the mixture's id.

        Raises:
            IndexError: ``index`` is outside ``[0, len)``.
        """
        part, row, time = self._place(index)
        example = self.datasets[part][row]
        name = self.names[part]
        return replace(
            example,
            sample_id=self._name(part, example.sample_id, time),
            session_id=f"{name}-{example.session_id}" if example.session_id else "",
            attributes={**example.attributes, "dataset": name},
        )

    def shared_splits(self) -> tuple[str, ...]:
        """Splits that share rows of any part."""
        shared = {split for dataset in self.datasets for split in shared_splits(dataset)}
        return tuple(split for split in SPLITS if split in shared)

    def missing_expressive(self) -> tuple[int, list[str]]:
        """How many different examples of the parts have no expressive instruction, and the ids of the first few."""
        total, ids = 0, []
        for part, dataset in enumerate(self.datasets):
            if isinstance(dataset, KnowsExpressive):
                count, names = dataset.missing_expressive()
                total += count
                ids += [self._name(part, name, 1) for name in names]
        return total, ids[:_NAMES_SHOWN]

    def source_sizes(self) -> np.ndarray:
        """Width and height of each example's source.

        Returns:
            ``(len, 2)`` int32, pixels.

        Raises:
            ConfigError: A part can not tell them.
        """
        sizes = np.empty((len(self), 2), np.int32)
        for part, dataset in enumerate(self.datasets):
            if not isinstance(dataset, KnowsSizes):
                raise no_sizes(f"{self.names[part]} ({type(dataset).__name__})")
            here = self._parts == part
            sizes[here] = dataset.source_sizes()[self._turns[here] % len(dataset)]
        return sizes

    def text_lengths(self) -> np.ndarray:
        """Characters of each example's instruction and expressive instruction, 0 where there is none.

        Returns:
            ``(len, 2)`` int64.

        Raises:
            ConfigError: A part can not tell them.
        """
        lengths = np.empty((len(self), 2), np.int64)
        for part, dataset in enumerate(self.datasets):
            if not isinstance(dataset, KnowsLengths):
                raise no_lengths(f"{self.names[part]} ({type(dataset).__name__})")
            here = self._parts == part
            lengths[here] = dataset.text_lengths()[self._turns[here] % len(dataset)]
        return lengths

    def _place(self, index: int) -> tuple[int, int, int]:
        """Part, row in it, and how many times that row has come, from 1."""
        if not 0 <= index < len(self):
            raise IndexError(f"index: expected 0 to {len(self) - 1}, got {index}")
        part = int(self._parts[index])
        time, row = divmod(int(self._turns[index]), len(self.datasets[part]))
        return part, row, time + 1

    def _name(self, part: int, sample_id: str, time: int) -> str:
        return f"{self.names[part]}-{sample_id}" + (f".{time}" if time > 1 else "")


def slots_of(sizes: Sequence[int], weights: Sequence[float]) -> list[int]:
    """Places of each part in an epoch: in proportion to the weights, and at least one for each of its examples.

    Args:
        sizes: Examples of each part.
        weights: All above 0.

    Returns:
        Number of places of each part.

    >>> slots_of([90, 5], [3, 1])
    [90, 30]
    """
    scale = max(size / weight for size, weight in zip(sizes, weights, strict=True))
    return [max(size, round(scale * weight)) for size, weight in zip(sizes, weights, strict=True)]


def interleave(counts: Sequence[int]) -> np.ndarray:
    """Numbers of parts, part ``k`` as often as ``counts[k]`` says, each spread evenly.

    Args:
        counts: Of each part.

    Returns:
        ``(sum(counts),)`` int64.

    >>> interleave([4, 2]).tolist()
    [0, 1, 0, 0, 1, 0]
    """
    part = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([(np.arange(count) + 0.5) / count for count in counts])
    return part[np.lexsort((part, place))]


def _checked_weights(parts: Mapping[str, MixturePart], option: str) -> list[float] | None:
    if not parts:
        raise ConfigError(f"{option}.reader.parts: expected at least one data set, got none")
    given = {name: part.weight for name, part in parts.items() if part.weight is not None}
    bad = [f"{name}={weight}" for name, weight in given.items() if not 0 < weight < float("inf")]
    if bad or len(given) not in {0, len(parts)}:
        without = [f"{name}=null" for name in parts if name not in given]
        raise ConfigError(
            f"{option}: expected a weight above 0 for every data set of the mixture, or for none, got "
            f"{', '.join(bad or without)}; change it"
        )
    return list(given.values()) or None
