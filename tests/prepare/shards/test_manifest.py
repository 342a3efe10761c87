from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mgie_lit.data.readers.evr import EVR
from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.shards import Shards
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.shards.writing import write_shards
from mgie_lit.testing.datasets import write_evr, write_imagefolder


@pytest.mark.faults
def test_other_settings(write: Callable[..., dict[str, int]], tmp_path: Path) -> None:
    write(tmp_path / "out")
    with pytest.raises(ConfigError, match=r"was begun with shards.max_bytes = 20480, now it is 30; use the same"):
        write(tmp_path / "out", max_bytes=30)


@pytest.mark.faults
def test_a_folder_with_something_else(write: Callable[..., dict[str, int]], pairs: Path) -> None:
    with pytest.raises(ConfigError, match=r"shards.path: expected an empty folder, .* with test; give another one"):
        write(pairs)


@pytest.mark.faults
def test_splits_that_overlap(tmp_path: Path) -> None:
    write_evr(tmp_path)
    datasets = {"train": EVR("val", root=tmp_path), "val": EVR("val", 1, root=tmp_path)}
    with pytest.raises(DataError, match=r"shards.splits: expected splits without common examples, .* in train and in"):
        write_shards(tmp_path / "out", datasets, {}, max_bytes=10**6)


def test_undivided_data_are_written_once(tmp_path: Path) -> None:
    write_imagefolder(tmp_path / "pairs", num_examples=3)
    datasets = {split: ImageFolder(split, root=tmp_path / "pairs") for split in ("train", "val", "test")}
    write_shards(tmp_path / "out", datasets, {}, max_bytes=10**6)
    assert [path.name for path in (tmp_path / "out").glob("*.tar")] == ["train-000000.tar"]
    assert len(Shards("test", root=tmp_path / "out")) == 3
