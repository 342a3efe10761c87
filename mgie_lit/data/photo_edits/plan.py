"""Which edit an index stands for: drawn in training, in a balanced order in validation and test."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.data.photo_edits.families import FAMILIES
from mgie_lit.data.photo_edits.wordings import BASE_WORDINGS, Wording
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

NEW_WORDING_EVERY = 5  # one in five requests of validation and test was never trained on


@dataclass(frozen=True, slots=True)
class Task:
    """What to make at one index."""

    family: str
    operation: str
    wording: Wording
    turn: int | None  # see ``PairRequest.turn``


@dataclass(frozen=True, slots=True)
class EditMix:
    """Weights of the families and the operations of each; only what can be drawn."""

    weights: dict[str, float]  # sum 1
    operations: dict[str, tuple[str, ...]]

    @classmethod
    def create(cls, families: Mapping[str, float], operations: Iterable[str] | None) -> EditMix:
        """Check what the user wrote.

        Args:
            families: Weight of each family, dimensionless, at least 0; what is not named has 0.
            operations: The only operations to use; None uses all of the families with a weight.

        Returns:
            The mix, its weights scaled to sum 1.

        Raises:
            ConfigError: An unknown name, a weight that is no share, or nothing left to draw.
        """
        _check_names("data.reader.families", families, FAMILIES)
        for name, weight in families.items():
            if not isinstance(weight, int | float) or not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(
                    f"data.reader.families.{name}: expected a number of at least 0, got {weight!r}; 0 leaves it out"
                )
        wanted = None if operations is None else tuple(dict.fromkeys(operations))
        _check_names("data.reader.operations", wanted or (), BASE_WORDINGS)
        positive = {name: float(weight) for name, weight in families.items() if weight > 0}
        if not positive:
            raise ConfigError(
                f"data.reader.families: expected a weight above 0, got {dict(families)}; set one of {list(FAMILIES)}"
            )
        chosen = {name: _choose(name, wanted) for name in positive}
        unused = set(wanted or ()) - {operation for kept in chosen.values() for operation in kept}
        if unused:
            raise ConfigError(
                f"data.reader.operations: {sorted(unused)} belong to no family with a weight above 0; "
                "set data.reader.families.NAME, or leave them out"
            )
        total = sum(positive.values())
        return cls({name: weight / total for name, weight in positive.items()}, chosen)

    def draw(self, rng: np.random.Generator) -> Task:
        """A training task: family by weight, operation uniformly; its wording is always one to train on."""
        first, second = rng.random(2).tolist()
        for family, weight in self.weights.items():  # noqa: B007 - the last one takes what rounding leaves
            if first < weight:
                break
            first -= weight
        names = self.operations[family]
        return Task(family, names[int(second * len(names))], "seen", turn=None)

    def schedule(self, count: int, num_photographs: int) -> list[Task]:
        """The first ``count`` tasks of the balanced order; a longer one begins with the same tasks.

        Families come by weight; within one, operations alternate, then photographs, then wordings.
        """
        made = dict.fromkeys(self.weights, 0)
        tasks: list[Task] = []
        for position in range(count):
            family = max(self.weights, key=lambda name: self.weights[name] * (position + 1) - made[name])
            names = self.operations[family]
            turn, place = divmod(made[family], len(names))
            made[family] += 1
            tasks.append(Task(family, names[place], _wording(turn, num_photographs), turn))
        return tasks


def _wording(turn: int, num_photographs: int) -> Wording:
    """Every fifth is new, for each photograph and for each operation."""
    round_number, photograph = divmod(turn, num_photographs)
    return "new" if (round_number + photograph) % NEW_WORDING_EVERY == NEW_WORDING_EVERY - 1 else "seen"


def _choose(family: str, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    known = FAMILIES[family].operations
    chosen = known if wanted is None else tuple(name for name in known if name in wanted)
    if not chosen:
        raise ConfigError(
            f"data.reader.operations: none of {list(wanted or ())} belongs to the family {family!r}, "
            f"which has {list(known)}; add one, or set data.reader.families.{family}=0"
        )
    return chosen


def _check_names(key: str, names: Iterable[str], known: Iterable[str]) -> None:
    unknown = [name for name in names if name not in set(known)]
    if unknown:
        raise ConfigError(f"{key}: unknown {unknown}; expected names out of {list(known)}")
