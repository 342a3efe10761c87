from __future__ import annotations

import multiprocessing
import pickle
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from mgie_lit.data.readers import held_files
from mgie_lit.data.readers.held_files import HeldFiles


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    files = [tmp_path / f"{number}.tar" for number in range(4)]
    for number, path in enumerate(files):
        path.write_bytes(bytes([number] * 100))
    return files


def test_bytes_at_any_place(paths: list[Path]) -> None:
    paths[0].write_bytes(b"0123456789")
    files = HeldFiles()
    assert files.read(paths[0], 7, 2) == b"78"
    assert files.read(paths[0], 1, 3) == b"123"
    assert files.read(paths[0], 8, 5) == b"89", "fewer at the end"


def test_only_so_many_are_open_and_the_oldest_goes(paths: list[Path]) -> None:
    files = HeldFiles(limit=2)
    for number in (0, 1, 0, 2):
        assert files.read(paths[number], 0, 1) == bytes([number])
    assert len(files) == 2
    for path in paths:
        path.unlink()
    assert files.read(paths[0], 0, 1) == b"\x00", "was used after the other one"
    with pytest.raises(FileNotFoundError):
        files.read(paths[1], 0, 1)
    files.close()
    assert len(files) == 0


def test_lines_longer_than_a_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_files, "_LINE_BLOCK", 4)
    path = tmp_path / "lines.tsv"
    lines = [b"first one", b"", b"abc", b"abcd", b"no end"]
    path.write_bytes(b"\n".join(lines))
    files, offset = HeldFiles(), 0
    for line in lines:
        assert files.read_line(path, offset) == line
        offset += len(line) + 1
    assert files.read_line(path, offset) == b""


def test_a_pickle_holds_no_open_file(paths: list[Path]) -> None:
    files = HeldFiles(limit=3)
    files.read(paths[0], 0, 1)
    other = pickle.loads(pickle.dumps(files))
    assert len(other) == 0
    for path in paths:
        other.read(path, 0, 1)
    assert len(other) == 3


def test_forked_processes_do_not_disturb_each_other(tmp_path: Path) -> None:
    path = tmp_path / "shared"
    path.write_bytes(bytes(range(256)) * 64)
    files = HeldFiles()
    files.read(path, 0, 1)
    context = multiprocessing.get_context("fork")
    together = context.Barrier(2)
    readers = [context.Process(target=_read_all, args=(files, path, together)) for _ in range(2)]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join(60)
    assert [reader.exitcode for reader in readers] == [0, 0]


def _read_all(files: HeldFiles, path: Path, together: Barrier) -> None:
    together.wait(30)
    for offset in range(2000):
        assert files.read(path, offset, 1)[0] == offset % 256, offset
