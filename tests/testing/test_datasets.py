"""What the writers of synthetic data promise beyond what the readers' tests look at."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgie_lit.testing.datasets import WRITERS
from mgie_lit.testing.datasets.magicbrush import _sessions_of
from mgie_lit.testing.datasets.pictures import EDITS, RESULTS, edited_picture, local_words, source_picture, words


@pytest.mark.parametrize("name", WRITERS)
def test_the_same_files_every_time(name: str, tmp_path: Path) -> None:
    for folder in ("first", "second"):
        WRITERS[name](tmp_path / folder)
    first, second = (
        {
            path.relative_to(tmp_path / folder): path.read_bytes()
            for path in (tmp_path / folder).rglob("*")
            if path.is_file()
        }
        for folder in ("first", "second")
    )
    assert first == second
    assert sum(path.suffix.lower() in {".jpg", ".png", ".gif", ".jpeg"} for path in first) >= 16
    assert sum(map(len, first.values())) < 2**20


def test_edits_show_and_words_are_unique() -> None:
    assert len(EDITS) == len(RESULTS)
    for number in range(8):
        picture = source_picture(number)
        assert picture.tobytes() == source_picture(number).tobytes() != source_picture(number + 1).tobytes()
        assert edited_picture(picture, number).tobytes() != picture.tobytes()
        assert words(number).startswith(EDITS[number % 4])
        assert words(number) != words(number + 4)
    assert local_words(1) == "make it black and white where the disc is (1)"


def test_quirks_of_the_real_files(tmp_path: Path) -> None:
    for name, write in WRITERS.items():
        write(tmp_path / name)
    gier = (tmp_path / "gier" / "splits" / "train_sess_3.json").read_text()
    assert all(quirk in gier for quirk in ("NaN", "gaussain_blur", "black&white"))
    names = {path.suffix for path in (tmp_path / "evr" / "images").iterdir()}
    assert {".gif", ".JPG", ".jpeg"} <= names
    sessions = json.loads((tmp_path / "magicbrush" / "dev" / "edit_sessions.json").read_text())
    assert sorted(len(turns) for turns in sessions.values()) == [1, 2, 3]
    assert "request_idx" in (tmp_path / "ma5k" / "annotations" / "val_sess_1.json").read_text()


def test_unknown_split_of_the_sessions() -> None:
    with pytest.raises(ValueError, match=r"split: expected one of train, dev, test, got 'val'"):
        _sessions_of("val")
