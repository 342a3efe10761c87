"""A data set of plain grays: the source is black, so that the L1 of a copy is the target's level."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import pytest
from PIL import Image

from mgie_lit.types import EditedImage, EditExample

if TYPE_CHECKING:
    from collections.abc import Sequence


def gray(level: int, size: tuple[int, int] = (16, 12)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


@dataclass
class ToyDataset:
    examples: list[EditExample]

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> EditExample:
        return self.examples[index]

    def sample_id(self, index: int) -> str:
        return self.examples[index].sample_id


class ToySystem:
    """Edits to a gray of ``level + seed``, and says so; remembers the batches that it saw."""

    def __init__(self, level: int, size: tuple[int, int] | None = None) -> None:
        self.level = level
        self.size = size
        self.batches: list[tuple[list[str], int]] = []

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage | None]:
        self.batches.append(([example.sample_id for example in examples], seed))
        level = self.level + seed
        return [EditedImage(gray(level, self.size or one.source.size), f"it gets gray {level}") for one in examples]


class MakeDataset(Protocol):
    def __call__(self, *levels: int, sessions: Sequence[str] = ...) -> ToyDataset: ...


@pytest.fixture
def make_dataset() -> MakeDataset:
    """Targets of the given levels, ids ``s0, s1, ...``, attributes ``kind`` (even or odd) and ``place``."""

    def make(*levels: int, sessions: Sequence[str] = ()) -> ToyDataset:
        return ToyDataset(
            [
                EditExample(
                    sample_id=f"s{index}",
                    source=gray(0),
                    target=gray(level),
                    instruction=f"make it gray {level}",
                    expressive_instruction=f"It gets gray {level}.",
                    session_id=sessions[index] if sessions else "",
                    attributes={"kind": "odd" if level % 2 else "even", "place": f"p{index}"},
                )
                for index, level in enumerate(levels)
            ]
        )

    return make


@pytest.fixture
def make_system() -> type[ToySystem]:
    return ToySystem
