from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgie_lit.data.cache.files import (
    damaged_files,
    numbered_files,
    remove_drafts,
    require_whole,
    stamp,
    write_numbered,
)
from mgie_lit.errors import DataError


def write(folder: Path, text: str) -> Path:
    return write_numbered(folder, ".txt", lambda path: path.write_text(text) and None)


def spoil(path: Path) -> None:
    """Change a byte without a trace in size or time of writing."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[0] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def test_names_carry_number_and_hash(tmp_path: Path) -> None:
    first, second, same = write(tmp_path / "new", "a"), write(tmp_path / "new", "b"), write(tmp_path / "new", "a")
    assert [path.name[:7] for path in (first, second, same)] == ["000000-", "000001-", "000002-"]
    assert first.name[7:] == same.name[7:] != second.name[7:]
    assert numbered_files(tmp_path / "new") == [first, second, same]
    assert numbered_files(tmp_path / "none") == []


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def broken(path: Path) -> None:
        path.write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_numbered(tmp_path, ".txt", broken)
    assert list(tmp_path.iterdir()) == []


def test_drafts_of_a_killed_process_are_no_files_and_are_removed(tmp_path: Path) -> None:
    (tmp_path / "samples").mkdir()
    (tmp_path / "samples" / ".draft-12.arrow").write_text("half")
    assert numbered_files(tmp_path / "samples") == []
    remove_drafts(tmp_path)
    assert list((tmp_path / "samples").iterdir()) == []


def test_damage_is_found_also_without_a_trace_in_size_and_time(tmp_path: Path) -> None:
    paths = [write(tmp_path, text) for text in ("one", "two", "three")]
    assert damaged_files(tmp_path) == []
    spoil(paths[1])
    assert damaged_files(tmp_path) == [paths[1]]
    assert damaged_files(tmp_path) == [paths[1]], "it is not forgotten"


def test_files_that_were_right_are_not_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path, "one")
    assert damaged_files(tmp_path) == []
    read: list[Path] = []
    monkeypatch.setattr("mgie_lit.data.cache.files.content_hash", lambda path: read.append(path) or path.name[7:])
    assert damaged_files(tmp_path) == []
    assert read == []
    assert damaged_files(tmp_path, trust_stamps=False) == []
    assert read == [path]


def test_a_broken_record_is_no_obstacle(tmp_path: Path) -> None:
    write(tmp_path, "one")
    (tmp_path / "verified.json").write_text("[not json")
    assert damaged_files(tmp_path) == []


@pytest.mark.faults
def test_damaged_files_are_named(tmp_path: Path) -> None:
    paths = [write(tmp_path, text) for text in ("one", "two")]
    require_whole(tmp_path, "make it again")
    for path in paths:
        spoil(path)
    with pytest.raises(
        DataError, match=r"data\.cache: .*000000-.* and 1 more: the content does not fit .*; make it again"
    ):
        require_whole(tmp_path, "make it again")


def test_stamp_changes_with_every_write(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("1")
    before = stamp(path)
    assert stamp(path) == before
    path.write_text("12")
    assert stamp(path) != before
