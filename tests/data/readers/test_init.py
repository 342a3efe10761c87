"""What a training asks of its readers before the first step."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.data.readers import EditDataset, has_expressive, listing, require_expressive
from mgie_lit.data.readers.evr import EVR
from mgie_lit.errors import ConfigError
from mgie_lit.testing.random_data import RandomDataset


def test_readers_that_make_their_own_words_are_taken_at_their_word() -> None:
    dataset = RandomDataset("train", 3)
    assert has_expressive(dataset)
    require_expressive(dataset, "train")


def test_raw_words_satisfy_a_training(datasets_dir: Path) -> None:
    dataset = EVR("train", root=datasets_dir / "evr", expressive="instruction")
    assert isinstance(dataset, EditDataset)
    assert has_expressive(dataset)
    require_expressive(dataset, "train")


@pytest.mark.faults
def test_missing_words_are_an_error_that_names_the_command(datasets_dir: Path) -> None:
    dataset = EVR("val", root=datasets_dir / "evr")
    assert not has_expressive(dataset)
    message = (
        r"data\.expressive: expected .* each of the 12 val examples, but none has one; make them with `mgie prepare "
    )
    with pytest.raises(ConfigError, match=message + r"expressive` .*data\.expressive=instruction"):
        require_expressive(dataset, "val")


@pytest.mark.faults
def test_a_few_missing_words_are_named() -> None:
    class Patchy(RandomDataset):
        def missing_expressive(self) -> tuple[int, list[str]]:
            return 7, ["a", "b"]

    with pytest.raises(ConfigError, match=r"each of the 9 train examples, but 7 have none \(a, b, \.\.\.\)"):
        require_expressive(Patchy("train", 9), "train")


def test_listing_without_more() -> None:
    assert listing(["a", "b"], 2) == "a, b"
