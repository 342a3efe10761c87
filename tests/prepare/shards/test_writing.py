from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from filelock import FileLock

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.data.readers.shards import Shards
from mgie_lit.errors import DataError
from mgie_lit.prepare.shards.manifest import LOCK
from mgie_lit.prepare.shards.packing import pack

Write = Callable[..., dict[str, int]]


def contents(folder: Path) -> dict[str, bytes]:
    """All that is there, drafts included; the lock file is empty."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.parametrize("num_workers", [0, 2])
def test_examples_come_back_equal(write: Write, pairs: Path, tmp_path: Path, num_workers: int) -> None:
    assert write(tmp_path / "out", num_workers=num_workers) == {"train": 7, "val": 7}
    for split in ("train", "val"):
        before, after = ImageFolder(split, root=pairs), Shards(split, root=tmp_path / "out")
        assert [after[index] for index in range(len(after))] == [before[index] for index in range(len(before))]


def test_a_stopped_run_goes_on_to_the_same_bytes(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "straight")
    with tarfile.open(tmp_path / "straight" / "train-000000.tar") as tar:
        finished = sum(name.endswith(".json") for name in tar.getnames())
    assert 0 < finished < 6
    calls: list[int] = []

    def stopping(dataset: ImageFolder, index: int) -> Any:  # noqa: ANN401
        calls.append(index)
        if len(calls) == 7:
            raise KeyboardInterrupt
        return pack(dataset, index)

    monkeypatch.setattr("mgie_lit.prepare.shards.packing.pack", stopping)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "stopped")
    assert list((tmp_path / "stopped").glob(".draft-*"))
    with pytest.raises(DataError, match=r"data.root: no index.arrow in"):
        Shards("train", root=tmp_path / "stopped")
    write(tmp_path / "stopped")
    assert calls[7] == finished, "what lies in a finished shard is not opened again"
    assert len(calls) == 7 + (7 - finished) + 7
    assert contents(tmp_path / "stopped") == contents(tmp_path / "straight")
    write(tmp_path / "stopped")
    assert len(calls) == 21 - finished, "all was there"


@pytest.mark.parametrize(
    ("file", "damage"),
    [
        ("train-000001.tar", "flipped"),
        ("train-000001.tar", "cut"),
        ("val-000000.tar", "removed"),
        (".parts/train-000001.arrow", "cut"),
        (".parts/train-000001.arrow", "empty"),
        (".parts/train-000001.arrow", "removed"),
    ],
)
def test_damage_is_found_and_repaired(file: str, damage: str, write: Write, tmp_path: Path) -> None:
    write(tmp_path / "out")
    good = contents(tmp_path / "out")
    path = tmp_path / "out" / file
    content = path.read_bytes()
    path.write_bytes({"flipped": b"x" * 600 + content[600:], "cut": content[:-600]}.get(damage, b""))
    if damage == "removed":
        path.unlink()
    write(tmp_path / "out", verify=True)
    assert contents(tmp_path / "out") == good


def test_damage_that_keeps_the_size_is_found_with_verify_alone(write: Write, tmp_path: Path) -> None:
    write(tmp_path / "out")
    shard = tmp_path / "out" / "train-000001.tar"
    damaged = b"x" * 600 + shard.read_bytes()[600:]
    shard.write_bytes(damaged)
    write(tmp_path / "out")
    assert shard.read_bytes() == damaged
    write(tmp_path / "out", verify=True)
    assert shard.read_bytes() != damaged


def test_progress_is_shown(write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with patch.dict(os.environ, FORCE_COLOR="1", COLUMNS="100"):
        write(tmp_path / "out")
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "writing train" in shown.err
    assert "writing val" in shown.err
    assert "100%" in shown.err


@pytest.mark.faults
def test_another_process(write: Write, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with (
        FileLock(tmp_path / "out" / LOCK),
        pytest.raises(DataError, match=r"shards.path: another process writes to .*; wait for it"),
    ):
        write(tmp_path / "out")
