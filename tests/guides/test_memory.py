from __future__ import annotations

import pytest
import torch
from torch import nn

from mgie_lit.guides.memory import ImageMemory, Images


def test_images_that_are_alike_are_kept_once() -> None:
    first, second = torch.zeros(3, 2, 2), torch.ones(3, 2, 2)
    images = Images.of(torch.stack([second, first, second]), 3)
    assert images.of_row == [0, 1, 0]
    assert images.pixels is not None
    assert torch.equal(images.pixels, torch.stack([second, first]))
    assert len(set(images.keys)) == 2


def test_without_eyes_all_images_are_alike() -> None:
    images = Images.of(None, 3)
    assert images.pixels is None
    assert images.of_row == [0, 0, 0]
    assert len(images.keys) == 1


def recalled(memory: ImageMemory, *keys: str) -> list[str]:
    """Keys that had to be made."""
    made: list[str] = []

    def make(places: list[int]) -> list[str]:
        made.extend(keys[place] for place in places)
        return [keys[place].upper() for place in places]

    assert memory.recall(keys, make) == [key.upper() for key in keys]
    return made


def test_values_are_made_once() -> None:
    memory = ImageMemory()
    assert recalled(memory, "a", "b") == ["a", "b"]
    assert recalled(memory, "b", "c", "a") == ["c"]
    memory.forget()
    assert recalled(memory, "a") == ["a"]


def test_the_one_not_used_for_longest_goes_first() -> None:
    memory = ImageMemory(max_entries=2)
    recalled(memory, "a", "b")
    recalled(memory, "a")
    assert recalled(memory, "c") == ["c"]
    assert recalled(memory, "a", "c") == []
    assert recalled(memory, "b") == ["b"]


def test_more_images_at_once_than_it_keeps() -> None:
    memory = ImageMemory(max_entries=1)
    assert recalled(memory, "a", "b", "c") == ["a", "b", "c"]
    assert recalled(memory, "c") == []


def test_weights_that_stay_keep_the_entries() -> None:
    memory, model = ImageMemory(), nn.Linear(2, 3)
    memory.check(model)
    recalled(memory, "a")
    memory.check(model)
    assert recalled(memory, "a") == []
    model.eval().requires_grad_(False)
    memory.check(model)
    assert recalled(memory, "a") == []
    memory.check(nn.Linear(2, 3))
    assert recalled(memory, "a") == ["a"]


def test_a_memory_without_room() -> None:
    with pytest.raises(ValueError, match="max_entries: expected at least 1, got 0"):
        ImageMemory(max_entries=0)
