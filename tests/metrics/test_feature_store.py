from __future__ import annotations

import multiprocessing
from typing import TYPE_CHECKING

import pytest
import torch
from PIL import Image

from mgie_lit.metrics.feature_store import FeatureStore, content_key, content_keys, identity_key

if TYPE_CHECKING:
    from pathlib import Path


def vectors(count: int, width: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {f"{index:02x}key": torch.randn(width, generator=generator) for index in range(count)}


def test_another_process_finds_what_was_stored(tmp_path: Path) -> None:
    known = vectors(3)
    FeatureStore(tmp_path).put(known, "clip")
    found = FeatureStore(tmp_path).get([*known, "ffkey"], "clip")
    assert set(found) == set(known)
    assert all(torch.equal(found[key], known[key]) for key in known)
    assert not FeatureStore(tmp_path).get(known, "dino")
    assert not FeatureStore().get(known, "clip")


@pytest.mark.parametrize("damage", [b"", b"12345", b"x" * 36])
def test_damaged_file_is_not_believed(tmp_path: Path, damage: bytes) -> None:
    known = vectors(1)
    FeatureStore(tmp_path).put(known, "clip")
    (file,) = tmp_path.rglob("*.f32")
    file.write_bytes(damage)
    assert not FeatureStore(tmp_path).get(known, "clip")
    FeatureStore(tmp_path).put(known, "clip")
    assert FeatureStore(tmp_path).get(known, "clip")


def test_flipped_bit_is_found(tmp_path: Path) -> None:
    known = vectors(1)
    FeatureStore(tmp_path).put(known, "clip")
    (file,) = tmp_path.rglob("*.f32")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    assert not FeatureStore(tmp_path).get(known, "clip")


def test_memory_drops_the_oldest_but_the_folder_keeps_them(tmp_path: Path) -> None:
    store = FeatureStore(tmp_path, memory_size=2)
    store.put(vectors(4), "clip")
    assert len(store._memory) == 2
    assert len(store.get(vectors(4), "clip")) == 4
    memory_only = FeatureStore(memory_size=2)
    memory_only.put(vectors(4), "clip")
    assert list(memory_only.get(vectors(4), "clip")) == ["02key", "03key"]


def _put_and_get(folder: str) -> None:
    known = vectors(40, width=500)
    for _ in range(5):
        store = FeatureStore(folder)
        found = store.get(known, "clip")
        assert all(torch.equal(found[key], known[key]) for key in found)
        store.put(known, "clip")


def test_processes_share_a_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_put_and_get, args=(str(tmp_path),)) for _ in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
        assert worker.exitcode == 0
    assert len(list(tmp_path.rglob("*"))) == 1 + 40 + 40, "no draft is left"


def test_content_is_pixels_mode_and_size() -> None:
    images = [
        Image.new("RGB", (2, 3)),
        Image.new("RGB", (3, 2)),
        Image.new("RGB", (2, 3), "red"),
        Image.new("L", (6, 3)),
    ]
    assert len(set(content_keys(images))) == 4
    assert content_key(images[0].copy()) == content_key(images[0])


def test_identity_is_not_the_place_of_the_files() -> None:
    here = {"source": "/a", "commit": "1", "weights_sha256": "w", "preprocessing": {"size": 224}}
    assert identity_key(here, "cuda:0") == identity_key(here | {"source": "/b", "commit": None}, "cuda:1")
    assert identity_key(here, "cuda") != identity_key(here, "cpu")
    assert identity_key(here, "cpu") != identity_key(here | {"preprocessing": {"size": 256}}, "cpu")
