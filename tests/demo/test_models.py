from __future__ import annotations

import os
from pathlib import Path

import pytest

from mgie_lit.demo.models import Shelf, find_models
from mgie_lit.errors import CheckpointError, ConfigError


def make_run(path: Path, *, has_checkpoint: bool = True) -> Path:
    (path / "checkpoints").mkdir(parents=True)
    (path / "config.yaml").touch()
    if has_checkpoint:
        (path / "checkpoints" / "step-1.ckpt").touch()
    return path


def make_export(path: Path) -> Path:
    path.mkdir(parents=True)
    (path / "model_index.json").touch()
    return path


def test_runs_and_exports_are_found_the_newest_first(tmp_path: Path) -> None:
    found = [
        make_run(tmp_path / "train" / "1"),
        make_run(tmp_path / "multirun" / "2" / "trials" / "0"),
        make_export(tmp_path / "exports" / "a"),
    ]
    for age, path in enumerate(found):
        os.utime(path, (1000 - age,) * 2)
    make_run(tmp_path / "train" / "2", has_checkpoint=False)
    make_run(tmp_path / ".hidden" / "1")
    make_run(tmp_path / "a" / "b" / "c" / "d" / "too-deep")
    (tmp_path / "eval" / "1").mkdir(parents=True)
    (tmp_path / "eval" / "1" / "config.yaml").touch()
    assert find_models(tmp_path) == found


def test_no_folder_no_models(tmp_path: Path) -> None:
    assert find_models(tmp_path / "none") == []


def test_named_ones_come_first_and_new_runs_appear(tmp_path: Path) -> None:
    shelf = Shelf(["tiny", "b", "tiny"], tmp_path, str)  # type: ignore[arg-type]
    assert (shelf.names(), shelf.default) == (["tiny", "b"], "tiny")
    run = make_run(tmp_path / "train" / "1")
    assert shelf.names() == ["tiny", "b", str(run)]
    shelf.check(str(run))


def test_other_folders_can_not_be_opened(tmp_path: Path) -> None:
    export = make_export(tmp_path / "elsewhere")
    shelf = Shelf(["tiny"], tmp_path / "runs", str)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=f"Model: expected one of tiny, got '{export}'; choose one of these"):
        shelf.get(str(export))


def test_the_last_used_stay_loaded(tmp_path: Path) -> None:
    loaded: list[str] = []

    def load(name: str) -> str:
        assert len(shelf._loaded) < 2  # room was made before
        loaded.append(name)
        return f"model {name}"

    shelf = Shelf(list("abc"), tmp_path, load, num_loaded=2)  # type: ignore[arg-type]
    for name in "abacab":
        assert shelf.get(name) == f"model {name}"
    assert loaded == ["a", "b", "c", "b"]
    assert [shelf.is_loaded(name) for name in "abc"] == [True, True, False]


def test_model_that_can_not_be_loaded_is_tried_again(tmp_path: Path) -> None:
    def load(_: str) -> str:
        raise CheckpointError("broken")

    shelf = Shelf(["a"], tmp_path, load)  # type: ignore[arg-type]
    for _ in range(2):
        with pytest.raises(CheckpointError, match="broken"):
            shelf.get("a")
