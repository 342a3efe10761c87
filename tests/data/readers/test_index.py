from __future__ import annotations

import logging
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from filelock import FileLock

from mgie_lit.data.readers import SPLITS
from mgie_lit.data.readers.index import (
    UNDIVIDED,
    MappedTable,
    Part,
    in_memory,
    index_path,
    is_undivided,
    split_range,
    stored,
    writable_place,
)
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import DataError


def rows(*names: str) -> Callable[[], Iterator[Row]]:
    return lambda: (Row(sample_id=name, instruction=f"do {name}", source=f"{name}.jpg") for name in names)


# not in the order of the splits
PARTS = [Part("val", rows("c")), Part("train", rows("a", "b")), Part("train", rows("d")), Part("test", rows("e", "f"))]


# Four parts of a row each; notes each part that it makes, and kills itself in the one that it is told.
_SLOW_BUILD = """
import os, signal, sys, time
from pathlib import Path
from mgie_lit.data.readers.index import Part, stored
from mgie_lit.data.readers.rows import Row

path, made, *killed = sys.argv[1:]

def make(name):
    time.sleep(0.05)
    with open(made, "a") as file:
        file.write(f"{name} ")
    if name in killed:
        os.kill(os.getpid(), signal.SIGKILL)
    yield Row(name, "do it", "a.jpg")

stored(lambda: [Part("train", lambda name=name: make(name)) for name in "0123"], Path(path), option="", what="demo")
"""


def ids(table: MappedTable, split: str) -> list[str]:
    return [table.table["sample_id"][position].as_py() for position in split_range(table.table, split)]


def build(path: Path, parts: list[Part] = PARTS) -> MappedTable:
    return stored(lambda: parts, path, option="data.root", what="demo")


def test_splits_in_memory_and_stored_are_alike(tmp_path: Path) -> None:
    for table in (in_memory(PARTS, "data.root"), build(tmp_path / "new" / "demo-1.arrow")):
        assert [ids(table, split) for split in SPLITS] == [["a", "b", "d"], ["c"], ["e", "f"]]
        assert not is_undivided(table.table)


def test_undivided_data_are_every_split(tmp_path: Path) -> None:
    parts = [Part(UNDIVIDED, rows("a", "b"))]
    for table in (in_memory(parts, "data.root"), build(tmp_path / "demo-1.arrow", parts)):
        assert [ids(table, split) for split in SPLITS] == [["a", "b"]] * 3
        assert is_undivided(table.table)


def test_only_training_is_not_undivided() -> None:
    table = in_memory([Part("train", rows("a"))], "data.root").table
    assert not is_undivided(table)
    assert len(split_range(table, "val")) == 0


def test_a_stored_index_is_not_built_again(tmp_path: Path) -> None:
    build(tmp_path / "demo-1.arrow")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-1.arrow", "demo-1.lock"]
    assert ids(stored(pytest.fail, tmp_path / "demo-1.arrow", option="", what=""), "val") == ["c"]


def test_an_interrupted_build_goes_on(tmp_path: Path) -> None:
    made: list[str] = []

    def counted(part: Part, *, breaks: bool = False) -> Part:
        def make() -> Iterator[Row]:
            made.append(part.split)
            if breaks:
                raise KeyboardInterrupt
            return part.rows()  # type: ignore[return-value]

        return Part(part.split, make)

    path = tmp_path / "demo-1.arrow"
    first = [counted(PARTS[0]), counted(PARTS[1]), counted(PARTS[2], breaks=True), counted(PARTS[3])]
    with pytest.raises(KeyboardInterrupt):
        build(path, first)
    assert not path.exists()
    made.clear()
    table = build(path, [counted(part) for part in PARTS])
    assert made == ["train", "test"], "the first two parts were there"
    assert [ids(table, split) for split in SPLITS] == [["a", "b", "d"], ["c"], ["e", "f"]]
    assert not path.with_suffix(".parts").exists()


def test_changed_annotations_replace_the_index_with_a_message(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    build(tmp_path / "demo-1.arrow")
    (tmp_path / "demo-1.expressive-9.arrow").touch()
    (tmp_path / "other-1.arrow").touch()
    assert "have changed" not in caplog.text
    build(tmp_path / "demo-2.arrow", PARTS[:2])
    assert "data.root: the annotations of demo have changed since they were indexed; indexing again" in caplog.text
    assert sorted(path.name for path in tmp_path.glob("*.arrow")) == ["demo-2.arrow", "other-1.arrow"]


def test_a_second_process_waits_and_uses_the_first_ones_index(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "demo-1.arrow"
    other = FileLock(path.with_suffix(".lock"))
    other.acquire()

    def finish(text: str, *args: object) -> None:  # the other process ends while we wait
        assert text.startswith("waiting for another process")
        in_memory(PARTS, "")
        build(tmp_path / "elsewhere" / "demo-1.arrow")
        (tmp_path / "elsewhere" / "demo-1.arrow").rename(path)
        other.release()

    from mgie_lit.data.readers import index

    log = index.LOG.info
    monkeypatch.setattr(index.LOG, "info", lambda text, *args: finish(text) if "waiting" in text else log(text, *args))
    assert ids(stored(pytest.fail, path, option="data.root", what="demo"), "val") == ["c"]


def test_a_mapped_table_is_pickled_as_its_path(tmp_path: Path) -> None:
    many = [Part("train", rows(*map(str, range(3000))))]
    table = build(tmp_path / "demo-1.arrow", many)
    assert len(pickle.dumps(table)) < 500
    assert pickle.loads(pickle.dumps(table)).table.equals(table.table)
    small = in_memory(PARTS, "")
    assert pickle.loads(pickle.dumps(small)).table.equals(small.table)


def test_place_of_an_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.data.readers.index.CACHE", tmp_path / "cache")
    root = tmp_path / "data"
    root.mkdir()
    beside = index_path("demo", "key", root, None)
    assert beside.parent == root / ".mgie_lit"
    assert beside.name.startswith("demo-")
    assert index_path("demo", "other key", root, None) != beside
    chosen = index_path("demo", "key", root, tmp_path / "mine")
    assert chosen.parent.parent == tmp_path / "mine"
    assert chosen.parent.name.startswith("data-")
    root.chmod(0o555)
    assert index_path("demo", "key", root, None).parent.parent == tmp_path / "cache"
    hub = index_path("demo", "key", Path("hf:owner/name"), None)
    assert hub.parent.parent == tmp_path / "cache"


def test_an_index_beside_data_that_are_read_only_now_is_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.data.readers.index.CACHE", tmp_path / "cache")
    root = tmp_path / "data"
    root.mkdir()
    path = index_path("demo", "key", root, None)
    build(path)
    assert writable_place(path.with_suffix(".more")) == path.with_suffix(".more")
    for folder in (path.parent, root):
        folder.chmod(0o555)
    assert index_path("demo", "key", root, None) == path
    assert index_path("demo", "other key", root, None).parent.parent == tmp_path / "cache"
    assert writable_place(path) == path
    assert writable_place(path.with_suffix(".more")).parent.parent == tmp_path / "cache"
    for folder in (path.parent, root):
        folder.chmod(0o755)


def test_two_processes_at_once_build_it_once(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.arrow"
    command = [sys.executable, "-c", _SLOW_BUILD, str(path), str(tmp_path / "made")]
    processes = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in processes] == [0, 0]
    assert (tmp_path / "made").read_text() == "0 1 2 3 "
    assert MappedTable.open(path).table["sample_id"].to_pylist() == ["0", "1", "2", "3"]


def test_a_killed_build_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "demo-1.arrow"
    command = [sys.executable, "-c", _SLOW_BUILD, str(path), str(tmp_path / "made"), "2"]
    assert subprocess.run(command, check=False, timeout=60).returncode == -signal.SIGKILL
    assert not path.exists()
    assert subprocess.run(command[:-1], check=False, timeout=60).returncode == 0
    assert (tmp_path / "made").read_text() == "0 1 2 2 3 ", "only the part in which it was killed is made again"
    assert MappedTable.open(path).table["sample_id"].to_pylist() == ["0", "1", "2", "3"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["demo-1.arrow", "demo-1.lock", "made"]


@pytest.mark.faults
def test_index_dir_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DataError, match=r"data\.index_dir: expected a folder that can be written, got .*; name another"
    ):
        build(tmp_path / "file" / "inside" / "demo-1.arrow")


@pytest.mark.faults
def test_index_dir_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match=r"data\.index_dir: expected a folder, got the file .*file; name another one"):
        index_path("demo", "key", tmp_path, tmp_path / "file")


@pytest.mark.faults
def test_repeated_ids_are_found_over_parts_and_splits(tmp_path: Path) -> None:
    parts = [Part("train", rows("a")), Part("val", rows("a"))]
    with pytest.raises(DataError, match=r"expected unique ids, got 'a'"):
        in_memory(parts, "data.root")
    with pytest.raises(DataError, match=r"expected unique ids, got 'a'"):
        build(tmp_path / "demo-1.arrow", parts)
    assert not (tmp_path / "demo-1.arrow").exists()
