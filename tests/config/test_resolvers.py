from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mgie_lit.config import resolvers
from mgie_lit.config.resolvers import forget_directories, new_directory, register_resolvers, reserve_directory
from mgie_lit.errors import ConfigError


@pytest.fixture(autouse=True)
def _fresh(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(resolvers, "_TIME_FORMAT", "one-moment")
    forget_directories()
    yield
    forget_directories()


def test_resolvers_resolve(tmp_path: Path) -> None:
    register_resolvers()
    register_resolvers()
    config = OmegaConf.create({"dir": f"${{mgie.new_dir:{tmp_path},train}}"})
    assert config.dir == str(tmp_path / "train" / "one-moment")


def test_name_stays_until_forgotten_and_nothing_is_made(tmp_path: Path) -> None:
    first = new_directory(str(tmp_path), "train")
    first.mkdir(parents=True)
    assert new_directory(str(tmp_path), "train") == first
    assert new_directory(str(tmp_path), "eval") != first
    forget_directories()
    assert new_directory(str(tmp_path), "train") == first.with_name("one-moment_2")
    assert not first.with_name("one-moment_2").exists()


def test_names_are_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d", new_directory(str(tmp_path), "train").name)


def test_reserving_moves_on_when_another_process_was_faster(tmp_path: Path) -> None:
    name = new_directory(str(tmp_path), "train")
    name.mkdir(parents=True)  # the other process
    assert reserve_directory(name)
    assert new_directory(str(tmp_path), "train") == name.with_name("one-moment_2")
    assert name.with_name("one-moment_2").is_dir()


def test_reserving_a_directory_of_the_user(tmp_path: Path) -> None:
    assert reserve_directory(tmp_path / "a" / "b")
    assert not reserve_directory(tmp_path / "a" / "b")


@pytest.mark.faults
def test_directory_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    message = r"paths.run_dir: expected a directory that can be made, got .*file.* \(.*\); choose another with paths"
    with pytest.raises(ConfigError, match=message):
        reserve_directory(tmp_path / "file")
    with pytest.raises(ConfigError, match=message):
        reserve_directory(tmp_path / "file" / "below")
