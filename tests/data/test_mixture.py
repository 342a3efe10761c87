"""Data sets with weights."""

from __future__ import annotations

import pickle
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgie_lit.data.mixture import Mixture, MixturePart, interleave, slots_of
from mgie_lit.data.readers import EditDataset
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.errors import ConfigError
from mgie_lit.testing.datasets import write_imagefolder


@pytest.fixture
def parts(tmp_path: Path) -> dict[str, MixturePart]:
    """Ten examples with weight 1, three without expressive instructions with weight 1."""
    write_imagefolder(tmp_path / "big", num_examples=10)
    write_imagefolder(tmp_path / "small", num_examples=3, has_expressive=False)
    return {name: MixturePart(partial(ImageFolder, root=tmp_path / name), 1.0) for name in ("big", "small")}


def ids(dataset: Mixture) -> list[str]:
    return [dataset.sample_id(index) for index in range(len(dataset))]


def test_every_example_comes_in_the_proportions_of_the_weights(parts: dict[str, MixturePart]) -> None:
    dataset = Mixture("train", parts=parts)
    names = ids(dataset)
    assert isinstance(dataset, EditDataset)
    assert len(names) == len(set(names)) == 20
    assert Counter(name.partition("-")[0] for name in names) == {"big": 10, "small": 10}
    assert {name for name in names if name.startswith("big")} == {
        f"big-{name}-{number:03d}" if name == "photo" else f"big-{name}-{number}"
        for number in range(10)
        for name in [("photo", "pair")[number % 2]]
    }
    assert [name for name in names if "small-pair-1" in name] == [f"small-pair-1{time}" for time in ("", ".2", ".3")]


def test_the_first_examples_have_the_proportions(parts: dict[str, MixturePart]) -> None:
    whole = ids(Mixture("train", parts=parts))
    for count in (2, 6, 13):
        names = ids(Mixture("train", count, parts=parts))
        assert names == whole[:count]
        assert abs(sum(name.startswith("big") for name in names) - count / 2) <= 0.5


def test_an_example_is_its_parts_own(parts: dict[str, MixturePart]) -> None:
    dataset = Mixture("train", parts=parts)
    own = ImageFolder("train", root=parts["small"].reader.keywords["root"])  # type: ignore[attr-defined]
    index = ids(dataset).index("small-pair-1.2")
    example = dataset[index]
    assert example.sample_id == "small-pair-1.2"
    assert example.source.tobytes() == own[1].source.tobytes()
    assert example.attributes == {"kind": "odd", "dataset": "small"}
    assert pickle.loads(pickle.dumps(dataset))[index].target.tobytes() == own[1].target.tobytes()
    for wrong in (-1, 20):
        with pytest.raises(IndexError, match=f"index: expected 0 to 19, got {wrong}"):
            dataset[wrong]


def test_validation_shows_everything_once(parts: dict[str, MixturePart]) -> None:
    names = ids(Mixture("val", parts=parts))
    assert [name.partition("-")[0] for name in names] == ["big"] * 10 + ["small"] * 3
    assert len(set(names)) == 13


def test_without_weights_sizes_count(parts: dict[str, MixturePart]) -> None:
    plain = {name: MixturePart(part.reader) for name, part in parts.items()}
    names = ids(Mixture("train", parts=plain))
    assert len(names) == len(set(names)) == 13


def test_missing_words_are_counted_over_the_parts(parts: dict[str, MixturePart]) -> None:
    assert Mixture("train", parts=parts).missing_expressive() == (
        3,
        ["small-photo-000", "small-pair-1", "small-photo-002"],
    )


def test_slots_show_each_example_at_least_once() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        sizes, weights = rng.integers(1, 5000, 3).tolist(), rng.uniform(0.01, 1, 3).tolist()
        slots = slots_of(sizes, weights)
        assert all(slot >= size for slot, size in zip(slots, sizes, strict=True))
        shares = np.array(slots) / sum(slots) - np.array(weights) / sum(weights)
        assert np.abs(shares).max() < 1 / min(sum(slots), 50)


def test_parts_are_spread_evenly() -> None:
    order = interleave([900, 100])
    assert np.bincount(order).tolist() == [900, 100]
    gaps = np.diff(np.flatnonzero(order == 1))
    assert gaps.min() >= 9
    assert gaps.max() <= 11


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {}}, r"data\.reader\.parts: expected at least one data set, got none"),
        ({"small": 0.0}, r"data: expected a weight above 0 for every data set .*, got small=0\.0; change it"),
        ({"small": float("inf")}, r"got small=inf"),
        ({"small": None}, r"for every data set of the mixture, or for none, got small=null"),
        ({"split": "dev"}, r"split: expected one of train, val, test, got 'dev'"),
        ({"num_examples": 0}, r"data\.num_examples\.train: expected at least 1 example, or null for all, got 0"),
    ],
)
def test_bad_values(parts: dict[str, MixturePart], changes: dict[str, Any], message: str) -> None:
    if "small" in changes:
        parts["small"] = MixturePart(parts["small"].reader, changes.pop("small"))
    with pytest.raises(ConfigError, match=message):
        Mixture(**{"split": "train", "parts": parts} | changes)


def test_a_mixture_shares_the_splits_of_any_part(parts: dict[str, MixturePart], tmp_path: Path) -> None:
    assert Mixture("test", parts=parts).shared_splits() == ("train", "val", "test")
    write_imagefolder(tmp_path / "divided", num_examples=2, is_divided=True)
    divided = {"own": MixturePart(partial(ImageFolder, root=tmp_path / "divided"))}
    assert Mixture("test", parts=divided).shared_splits() == ()
