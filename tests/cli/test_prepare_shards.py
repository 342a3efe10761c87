"""`mgie prepare shards` from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.cli.main import main
from mgie_lit.config.build import build_dataset
from mgie_lit.config.compose import compose_config
from mgie_lit.testing.datasets import write_magicbrush


@pytest.fixture
def folder(workplace: Path) -> Path:
    write_magicbrush(workplace / "brush", splits=("train", "dev"))
    return workplace


def run(*overrides: str) -> None:
    main(["prepare", "shards", "data=magicbrush", "data.root=brush", "shards.num_workers=0", *overrides])


def test_from_data_to_data(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("data.expressive=instruction", "shards.path=out")
    assert capsys.readouterr().out.splitlines() == ["12 train, 6 val examples", "out"]
    assert not list(folder.glob("runs")), "nothing but the folder is written"
    before = build_dataset(compose_config("train", ["data=magicbrush", "data.root=brush"]), "val")
    after = build_dataset(compose_config("train", ["data=shards", "data.root=out"]), "val")
    for index in range(len(before)):
        example, again = before[index], after[index]
        assert again.expressive_instruction == example.instruction
        assert (again.sample_id, again.turn, again.session_id) == (example.sample_id, example.turn, example.session_id)
        assert (again.source, again.target, again.mask) == (example.source, example.target, example.mask)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([], "shards.path: expected the folder to write, got null; give it as shards.path=<folder>"),
        (["shards.path=out", "shards.max_bytes=0"], "shards.max_bytes: expected at least 1, got 0"),
        (["shards.path=out", "shards.splits=[dev]"], "shards.splits: expected all, or a list of train, val, test, got"),
        (["shards.path=out", "shards.splits=[test]"], "data.root: expected test/edit_sessions.json in brush"),
        (["shards.path=brush"], "shards.path: expected an empty folder"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_mistakes(overrides: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run(*overrides)
    assert message in capsys.readouterr().err


@pytest.mark.faults
@pytest.mark.usefixtures("folder")
def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(SystemExit, match="2"):
        run("shards.path=out")
    assert "mgie prepare shards: expected to be started once, got 2 processes" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["prepare", "cache"])
    assert "mgie prepare cache: expected to be started once, got 2 processes" in capsys.readouterr().err
