from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from mgie_lit.config import resolvers
from mgie_lit.config.resolvers import (
    accumulated_batches,
    forget_directories,
    new_directory,
    register_resolvers,
    reserve_directory,
)
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


@pytest.mark.parametrize(
    ("arguments", "expected"), [((None, 4, "auto", 1), 1), ((128, 4, 8, 1), 4), ((32, 4, 8, 1), 1), ((64, 4, 2, 4), 2)]
)
def test_batches_of_an_optimizer_step(arguments: tuple[Any, ...], expected: int) -> None:
    assert accumulated_batches(*arguments) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((100, 32, 1, 1), r"a multiple of data.batch_size times the processes \(32 x 1 = 32\), got 100"),
        ((16, 4, 8, 1), r"\(4 x 8 = 32\), got 16; change one"),
        ((128, 4, "auto", 1), r"a number of devices to divide by, got trainer.devices=auto"),
    ],
)
def test_a_step_that_is_no_whole_number_of_batches(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        accumulated_batches(*arguments)
