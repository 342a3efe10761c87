"""Photographs and their splits."""

from __future__ import annotations

import importlib.machinery
import itertools
from pathlib import Path

import pytest
from PIL import Image

from mgie_lit.data.photo_edits import photographs as module
from mgie_lit.data.photo_edits.draws import SPLITS
from mgie_lit.data.photo_edits.photographs import bundled, from_folder, photographs
from mgie_lit.errors import DataError


def _folder(root: Path, names: list[str]) -> Path:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(path)
    return root


def test_bundled_photographs_exist_and_are_disjoint() -> None:
    names = {split: {photograph.name for photograph in bundled(split)} for split in SPLITS}
    assert names["train"] == {"astronaut", "chelsea", "hubble_deep_field", "ihc", "retina", "china"}
    assert names["val"] == {"motorcycle_left"}
    assert names["test"] == {"flower", "coffee", "rocket", "grace_hopper"}
    assert all(photograph.path.is_file() for split in SPLITS for photograph in photographs(split))


def test_training_weights() -> None:
    assert [photograph.weight for photograph in bundled("train")] == [3.0, 3.0, 1.0, 1.0, 1.0, 4.0]


def test_missing_package_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match=r"flower\.jpg: expected the package scikit-learn.*pip install scikit-learn"):
        bundled("test")


def test_missing_bundled_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    spec = importlib.machinery.ModuleSpec("skimage", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(module, "find_spec", lambda name: spec)
    with pytest.raises(DataError, match=r"motorcycle_left\.png: expected it at .*reinstall scikit-image"):
        bundled("val")


def test_folder_splits_are_disjoint_whole_and_repeatable(tmp_path: Path) -> None:
    names = [f"trip/{number}.jpg" for number in range(17)] + ["a.PNG", "b.tiff"]
    root = _folder(tmp_path, names)
    splits = {split: [photograph.name for photograph in from_folder(root, split)] for split in SPLITS}
    assert sorted(itertools.chain(*splits.values())) == sorted(names)
    assert {split: len(names) for split, names in splits.items()} == {"train": 13, "val": 2, "test": 4}
    assert splits["test"] == [photograph.name for photograph in from_folder(str(root), "test")]


def test_three_photographs_fill_three_splits(tmp_path: Path) -> None:
    root = _folder(tmp_path, ["a.png", "b.png", "c.png"])
    assert [len(from_folder(root, split)) for split in SPLITS] == [1, 1, 1]


def test_own_split_folders_win(tmp_path: Path) -> None:
    root = _folder(tmp_path, ["train/a.png", "val/b.png", "test/c.png", "test/d.png"])
    assert [photograph.name for photograph in from_folder(root, "test")] == ["test/c.png", "test/d.png"]


def test_empty_split_folder(tmp_path: Path) -> None:
    root = _folder(tmp_path, ["train/a.png", "test/c.png"])
    (root / "val").mkdir()
    with pytest.raises(DataError, match=r"no photographs in .*val; put at least one there"):
        from_folder(root, "val")


def test_hidden_and_other_files_are_left_out(tmp_path: Path) -> None:
    root = _folder(tmp_path, ["a.png", "b.png", "c.png", ".thumbnails/d.png"])
    (root / "notes.txt").write_text("no image")
    assert sum(len(from_folder(root, split)) for split in SPLITS) == 3


def test_too_few_photographs(tmp_path: Path) -> None:
    root = _folder(tmp_path, ["a.png", "b.png"])
    with pytest.raises(DataError, match=r"data\.root: expected at least 3 photographs in .*, got 2; add some"):
        from_folder(root, "train")


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: expected a folder of photographs, got .*nowhere.*check the path"):
        from_folder(tmp_path / "nowhere", "train")
