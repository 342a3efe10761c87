from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from mgie_lit.data.readers.evr import EVR
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.ipr2pr import IPr2Pr
from mgie_lit.data.readers.shards import Shards
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.shards import CHECKSUMS, LOCK, key_of, pack, write_shards
from mgie_lit.testing.datasets import write_evr, write_imagefolder, write_ipr2pr_packed

LIMIT = 20480


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    write_imagefolder(tmp_path / "pairs", is_divided=True, num_examples=7)
    return tmp_path / "pairs"


def write(pairs: Path, folder: Path, **kwargs: Any) -> dict[str, int]:  # noqa: ANN401
    datasets = {split: ImageFolder(split, root=pairs) for split in ("train", "val")}
    return write_shards(folder, datasets, {}, **{"max_bytes": LIMIT} | kwargs)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*.*") if path.is_file() and path.name != LOCK}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_examples_come_back_equal(pairs: Path, tmp_path: Path, num_workers: int) -> None:
    assert write(pairs, tmp_path / "out", num_workers=num_workers) == {"train": 7, "val": 7}
    for split in ("train", "val"):
        before, after = ImageFolder(split, root=pairs), Shards(split, root=tmp_path / "out")
        assert [after[index] for index in range(len(after))] == [before[index] for index in range(len(before))]


def test_layout_for_other_programs(pairs: Path, tmp_path: Path) -> None:
    """Members of an example stand together, share all before the first dot, and keep the bytes of their files."""
    write(pairs, tmp_path / "out")
    paths = sorted((tmp_path / "out").glob("train-*.tar"))
    assert len(paths) > 1
    assert all(path.stat().st_size <= LIMIT for path in paths)
    groups: dict[str, dict[str, bytes]] = {}
    for path in paths:
        with tarfile.open(path) as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                assert key not in list(groups)[:-1], "another example lies between"
                groups.setdefault(key, {})[suffix] = tar.extractfile(member).read()  # type: ignore[union-attr]
    assert len(groups) == 7
    group = groups["photo-000"]
    assert list(group) == ["source.png", "target.png", "mask.png", "json"]
    assert group["source.png"] == (pairs / "train/sources/photo-000.png").read_bytes()
    example = ImageFolder("train", root=pairs)[0]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(group["mask.png"]))), np.asarray(example.mask))
    assert json.loads(group["json"]) == {
        "id": "photo-000",
        "instruction": example.instruction,
        "expressive_instruction": example.expressive_instruction,
        "caption": example.caption,
        "turn": 1,
        "session": "",
        "attributes": {"kind": "even"},
    }
    for line in (tmp_path / "out" / CHECKSUMS).read_text().splitlines():
        digest, name = line.split("  ")
        assert digest == hashlib.sha256((tmp_path / "out" / name).read_bytes()).hexdigest()


def test_images_without_files_are_png(tmp_path: Path) -> None:
    write_ipr2pr_packed(tmp_path)
    dataset = IPr2Pr("train", root=tmp_path)
    members = {suffix: content for _, suffix, content in pack(dataset, 0).members}
    assert list(members) == ["source.png", "target.png", "json"]
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(members["source.png"]))), np.asarray(dataset[0].source))


def test_a_stopped_run_goes_on_to_the_same_bytes(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(pairs, tmp_path / "straight")
    with tarfile.open(tmp_path / "straight" / "train-000000.tar") as tar:
        finished = sum(name.endswith(".json") for name in tar.getnames())
    assert 0 < finished < 6
    calls: list[int] = []

    def stopping(dataset: ImageFolder, index: int) -> Any:  # noqa: ANN401
        calls.append(index)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return pack(dataset, index)

    monkeypatch.setattr("mgie_lit.prepare.shards.pack", stopping)
    with pytest.raises(KeyboardInterrupt):
        write(pairs, tmp_path / "stopped")
    assert list((tmp_path / "stopped").glob(".draft-*"))
    with pytest.raises(DataError, match=r"data.root: no index.arrow in"):
        Shards("train", root=tmp_path / "stopped")
    write(pairs, tmp_path / "stopped")
    assert calls[7] == finished, "what lies in a finished shard is not opened again"
    assert len(calls) == 7 + (7 - finished) + 7
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")
    write(pairs, tmp_path / "stopped")
    assert len(calls) == 21 - finished, "all was there"


def test_damage_is_found_and_repaired(pairs: Path, tmp_path: Path) -> None:
    write(pairs, tmp_path / "out")
    good = contents(tmp_path / "out")
    shard = tmp_path / "out" / "train-000001.tar"
    shard.write_bytes(shard.read_bytes()[:-600] + b"x" * 600)
    write(pairs, tmp_path / "out", verify=True)
    assert contents(tmp_path / "out") == good


def test_undivided_data_are_written_once(tmp_path: Path) -> None:
    write_imagefolder(tmp_path / "pairs", num_examples=3)
    datasets = {split: ImageFolder(split, root=tmp_path / "pairs") for split in ("train", "val", "test")}
    write_shards(tmp_path / "out", datasets, {}, max_bytes=10**6)
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["train-000000.tar"]
    assert len(Shards("test", root=tmp_path / "out")) == 3


def test_keys_have_no_dots() -> None:
    ids = ["a.b", "a%2Eb", "a%b"]
    keys = [key_of(name) for name in ids]
    assert len(set(keys)) == 3
    assert not any("." in key for key in keys)


def test_long_names(tmp_path: Path) -> None:
    """A header of its own does not move the places."""
    write_imagefolder(tmp_path / "pairs", num_examples=2)
    file = tmp_path / "pairs" / "metadata.jsonl"
    rows = [json.loads(line) | {"id": f"{number}-" + 60 * "ü"} for number, line in enumerate(file.open())]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    before = ImageFolder("train", root=tmp_path / "pairs")
    write_shards(tmp_path / "out", {"train": before}, {}, max_bytes=10**6)
    assert [Shards("train", root=tmp_path / "out")[index] for index in (0, 1)] == [before[0], before[1]]


@pytest.mark.faults
def test_other_settings(pairs: Path, tmp_path: Path) -> None:
    write(pairs, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"was begun with shards.max_bytes = 20480, now it is 30; use the same"):
        write(pairs, tmp_path / "out", max_bytes=30)


@pytest.mark.faults
def test_a_folder_with_something_else(pairs: Path) -> None:
    with pytest.raises(ConfigError, match=r"shards.path: expected an empty folder, .* with test; give another one"):
        write(pairs, pairs)


@pytest.mark.faults
def test_another_process(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / LOCK),
        pytest.raises(DataError, match=r"shards.path: another process writes to .*; wait for it"),
    ):
        write(pairs, tmp_path / "out")


@pytest.mark.faults
def test_splits_that_overlap(tmp_path: Path) -> None:
    write_evr(tmp_path)
    datasets = {"train": EVR("val", root=tmp_path), "val": EVR("val", 1, root=tmp_path)}
    with pytest.raises(DataError, match=r"shards.splits: expected splits without common examples, .* in train and in"):
        write_shards(tmp_path / "out", datasets, {}, max_bytes=10**6)
