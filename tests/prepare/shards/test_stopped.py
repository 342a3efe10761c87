"""A process that is killed, or whose disk is full, leaves a folder that goes on to the bytes of an undisturbed run."""

from __future__ import annotations

import json
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mgie_lit.prepare.shards.manifest import LOCK
from mgie_lit.testing.datasets import write_imagefolder
from mgie_lit.testing.random_data import random_image

LIMIT = 20480  # bytes of a shard: three of the pairs
KILLED = -9

Write = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four examples a split; the last one of `val` does not fit into a shard with others."""
    folder = tmp_path_factory.mktemp("pairs")
    write_imagefolder(folder, is_divided=True, num_examples=4)
    random_image(120, 120, seed=0).save(folder / "val" / "sources" / "photo-007.png")
    return folder


@pytest.fixture(scope="module")
def write(pairs: Path) -> Iterator[Write]:
    """Writes the pairs in a process of its own; says how it ended."""
    program = [sys.executable, str(Path(__file__).with_name("stopped_writer.py")), str(pairs), str(LIMIT)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin is not None
        assert server.stdout is not None

        def request(folder: Path, **stop: int) -> dict[str, Any]:
            print(json.dumps({"folder": str(folder), **stop}), file=server.stdin, flush=True)
            answer: dict[str, Any] = json.loads(server.stdout.readline())  # type: ignore[union-attr]
            return answer

        yield request
        server.stdin.close()


def contents(folder: Path) -> dict[str, bytes]:
    """All that is there, drafts included; the lock file is empty."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != LOCK)
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_killed_anywhere_it_goes_on_to_the_same_bytes(write: Write, tmp_path: Path) -> None:
    """Several kills in a row, each at a drawn call of a function, Python's or C's."""
    calls = write(tmp_path / "straight", call=0)["events"]
    expected = contents(tmp_path / "straight")
    killed = 0
    for seed in range(6):
        folder, draws = tmp_path / f"killed-{seed}", random.Random(seed)
        for _ in range(3):
            killed += write(folder, call=draws.randrange(1, calls))["status"] == KILLED
        assert write(folder)["status"] == 0
        assert contents(folder) == expected, f"seed {seed}"
    assert killed >= 12


def test_killed_before_any_touch_of_the_folder(write: Write, tmp_path: Path) -> None:
    touches = write(tmp_path / "straight", touch=0)["events"]
    assert touches > 20
    expected = contents(tmp_path / "straight")
    for touch in range(1, touches + 1):
        folder = tmp_path / f"killed-{touch}"
        assert write(folder, touch=touch)["status"] == KILLED
        assert write(folder)["status"] == 0
        assert contents(folder) == expected, f"touch {touch} of {touches}"


@pytest.mark.faults
def test_a_full_disk(write: Write, tmp_path: Path) -> None:
    """Told by the size of the files: one after the other, every kind of file does not fit."""
    write(tmp_path / "straight")
    expected = contents(tmp_path / "straight")
    kept = []
    for room in sorted({len(content) - 1 for content in expected.values()}):
        folder = tmp_path / f"full-{room}"
        answer = write(folder, file_bytes=room)
        assert re.fullmatch(
            r"DataError: shards.path: can not write to .*full-\d+ \(File too large\); the shards that are whole are "
            "kept: make room, then run the same command again to go on behind them",
            answer["error"],
        )
        left = contents(folder)
        assert left.items() <= expected.items(), "what is there is whole"
        kept.append(sum(name.endswith(".tar") for name in left))
        assert write(folder)["error"] == ""
        assert contents(folder) == expected
    assert kept[0] == 0
    assert max(kept) == sum(name.endswith(".tar") for name in expected) - 1, "all but the largest"
