from __future__ import annotations

import hashlib
import json
import multiprocessing
import pickle
from pathlib import Path

import pytest
import torch

from mgie_lit.data.cache.recipe import Recipe
from mgie_lit.data.cache.values import ValueStore, other_recipes, store_folder

RECIPE = Recipe("latents", {"weights": "abc", "dtype": "float32"})


def key(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest()


@pytest.fixture
def store(tmp_path: Path) -> ValueStore:
    """Two shards: entries 0 to 4 and 5 to 6; entry n holds n in `mean` and -n in `half`."""
    store = ValueStore.create(tmp_path, RECIPE)
    for numbers in (range(5), range(5, 7)):
        values = torch.tensor(numbers, dtype=torch.float32)[:, None, None].expand(-1, 2, 3)
        store.append([key(number) for number in numbers], {"mean": values, "half": -values[:, 0].bfloat16()})
    return store


def test_entries_come_back_with_shape_and_type(store: ValueStore) -> None:
    assert len(store) == 7
    for number in (6, 0, 4, 5):
        entry = store.read(key(number))
        assert entry.keys() == {"mean", "half"}
        assert torch.equal(entry["mean"], torch.full((2, 3), float(number)))
        assert torch.equal(entry["half"], torch.full((3,), -float(number), dtype=torch.bfloat16))


def test_what_is_not_there(store: ValueStore, tmp_path: Path) -> None:
    assert key(3) in store
    assert key(9) not in store
    with pytest.raises(KeyError, match=key(9).hex()):
        store.read(key(9))
    assert key(0) not in ValueStore.create(tmp_path, Recipe("vision", {}))


def test_keys_that_begin_alike_are_told_apart(tmp_path: Path) -> None:
    store = ValueStore.create(tmp_path, RECIPE)
    keys = [b"\xff" * 31 + bytes([last]) for last in range(3)]
    store.append(keys[:2], {"mean": torch.tensor([10.0, 11.0])})
    assert [store.read(one)["mean"].item() for one in keys[:2]] == [10.0, 11.0]
    assert keys[2] not in store


def _reads(store: ValueStore) -> float:
    return store.read(key(4))["mean"].sum().item()


def test_a_store_goes_to_other_processes_as_its_path(store: ValueStore) -> None:
    assert len(pickle.dumps(store)) < 300
    assert _reads(pickle.loads(pickle.dumps(store))) == 24.0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read(store: ValueStore, method: str) -> None:
    with multiprocessing.get_context(method).Pool(1) as pool:
        assert pool.apply(_reads, (store,)) == 24.0


def test_facts_stand_beside_the_shards(store: ValueStore, tmp_path: Path) -> None:
    assert store.folder == store_folder(tmp_path, RECIPE) == tmp_path / f"latents-{RECIPE.digest}"
    assert json.loads((store.folder / "recipe.json").read_text()) == dict(RECIPE.facts)
    ValueStore.create(tmp_path, Recipe("latents", {"weights": "begun and empty"}))
    assert other_recipes(tmp_path, "latents") == [dict(RECIPE.facts)]
    assert other_recipes(tmp_path, "vision") == []
