from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgie_lit.config.files import publish_new, publish_text


def test_file_appears_complete_with_its_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.txt"
    publish_text(path, "grün\n")
    assert path.read_text(encoding="utf-8") == "grün\n"
    assert os.listdir(path.parent) == ["b.txt"]


def test_existing_file_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(FileExistsError, match=r"a\.txt"):
        publish_text(path, "new")
    assert path.read_text() == "old"


def test_file_made_meanwhile_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"

    def write(temporary: Path) -> None:
        temporary.write_text("ours")
        path.write_text("theirs")

    with pytest.raises(FileExistsError):
        publish_new(path, write)
    assert path.read_text() == "theirs"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_failed_write_leaves_nothing(tmp_path: Path) -> None:
    def write(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        publish_new(tmp_path / "a.txt", write)
    assert os.listdir(tmp_path) == []


def test_file_systems_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    publish_text(tmp_path / "a.txt", "text")
    assert (tmp_path / "a.txt").read_text() == "text"
    with pytest.raises(FileExistsError):
        publish_text(tmp_path / "a.txt", "other")


def test_others_may_read_the_file(tmp_path: Path) -> None:
    publish_text(tmp_path / "a.txt", "text")
    plain = tmp_path / "plain.txt"
    plain.touch()
    assert (tmp_path / "a.txt").stat().st_mode == plain.stat().st_mode
