from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mgie_lit.errors import CheckpointError, DataError
from mgie_lit.report.read import Origin, read_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_runs_and_evaluations_are_told_apart(
    tmp_path: Path, make_run: Callable[..., Path], make_evaluation: Callable[..., Path]
) -> None:
    run = make_run(tmp_path / "one", 60)
    evaluation = make_evaluation(tmp_path / "two", 5, pictures=False)
    runs, evaluations = read_directories([evaluation, run])
    assert [entry.name for entry in runs] == ["one"]
    assert [entry.name for entry in evaluations] == ["two"]
    assert runs[0].last_step == 59
    assert runs[0].origin.overrides == ("experiment=quickstart", "trainer.max_steps=300")
    assert evaluations[0].metric_names == ["l1", "ssim", "psnr", "expressive_exact"]
    assert len(evaluations[0].table) == 5


def test_a_directory_given_twice_is_read_once(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", 5)
    assert len(read_directories([run, tmp_path / "." / "run"])[0]) == 1


def test_names_tell_directories_apart(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    runs, _ = read_directories([make_run(tmp_path / place / "run", 5) for place in ("a", "b")])
    assert [run.name for run in runs] == ["a/run", "b/run"]


def test_evaluations_are_named_after_their_systems(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folders = [make_evaluation(tmp_path / name, 5, pictures=False) for name in ("0", "1", "gold", "mgie", "theirs")]
    for folder, system in zip(folders, ("lgie", "mgie", "gold", None, None), strict=True):
        summary = json.loads((folder / "metrics.json").read_text())
        summary["source"] = {"system": system} if system else {"predictions": "images"}
        (folder / "metrics.json").write_text(json.dumps(summary))
    _, evaluations = read_directories(folders)
    parent = tmp_path.name
    assert [one.name for one in evaluations] == ["lgie", f"mgie ({parent}/1)", "gold", "mgie", "theirs"]
    _, evaluations = read_directories([folders[1], folders[2]])
    assert [one.name for one in evaluations] == ["mgie", "gold"]


def test_overrides_and_versions_may_be_missing(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "eval", 5, pictures=False, recorded=False)
    assert read_directories([folder])[1][0].origin == Origin()


def test_commit_says_whether_files_were_changed() -> None:
    assert Origin(versions={"git_commit": "a" * 40, "git_dirty": True}).commit == "aaaaaaaaaa with uncommitted changes"
    assert Origin(versions={"git_commit": "a" * 40, "git_dirty": False}).commit == "aaaaaaaaaa"
    assert Origin(versions={"git_commit": None}).commit == ""


def test_an_interrupted_evaluation_is_said_to_be_one(tmp_path: Path) -> None:
    (tmp_path / "eval" / "progress").mkdir(parents=True)
    message = r"got one that was interrupted; go on with `mgie eval resume=.*eval`, or leave it out"
    with pytest.raises(CheckpointError, match=message):
        read_directories([tmp_path / "eval"])


def test_other_directories_are_refused(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    with pytest.raises(CheckpointError, match=r"other: expected a training run \(with config.yaml and .*got no files"):
        read_directories([other])
    (other / "metrics.json").write_text("{}")
    message = r"metrics.json and per_sample.parquet\), got a folder with metrics.json; name a directory that `mgie"
    with pytest.raises(CheckpointError, match=message):
        read_directories([other])
    with pytest.raises(CheckpointError, match=r"absent: expected a training run .* got nothing there"):
        read_directories([tmp_path / "absent"])


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("metrics.json", "{", r"metrics.json: cannot be read \(.*make the directory again"),
        ("metrics.json", "[1]", r"metrics.json: expected keys and values, got list"),
        ("metrics.json", "{}", r"metrics.json: expected a key metrics"),
        ("per_sample.parquet", "no table", r"per_sample.parquet: cannot be read"),
        ("versions.json", "[]", r"versions.json: expected keys and values, got list"),
        ("overrides", "a: 1", r"overrides: expected a YAML list of overrides, got dict"),
        ("overrides", "[", r"overrides: cannot be read"),
    ],
)
def test_broken_files_are_named(
    tmp_path: Path, make_evaluation: Callable[..., Path], name: str, content: str, message: str
) -> None:
    folder = make_evaluation(tmp_path / "eval", 5, pictures=False)
    (folder / name).write_text(content)
    with pytest.raises(DataError, match=message):
        read_directories([folder])


def test_curves_need_steps(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", 5)
    (run / "metrics.csv").write_text("epoch,train/loss\n0,1\n")
    with pytest.raises(DataError, match=r"metrics.csv: expected a column step, got epoch, train/loss"):
        read_directories([run])
    (run / "metrics.csv").write_text("")
    with pytest.raises(DataError, match=r"metrics.csv: cannot be read"):
        read_directories([run])


def test_table_needs_its_columns(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "eval", 5, pictures=False)
    _, (evaluation,) = read_directories([folder])
    evaluation.table.drop(columns="instruction").to_parquet(folder / "per_sample.parquet")
    with pytest.raises(DataError, match=r"per_sample.parquet: expected columns .* instruction is missing"):
        read_directories([folder])


def test_a_directory_may_be_both(
    tmp_path: Path, make_run: Callable[..., Path], make_evaluation: Callable[..., Path]
) -> None:
    folder = make_run(tmp_path / "both", 5)
    make_evaluation(folder, 5, pictures=False)
    runs, evaluations = read_directories([folder])
    assert (len(runs), len(evaluations)) == (1, 1)
    assert (
        json.loads((folder / "metrics.json").read_text())["metrics"].keys() == evaluations[0].section("metrics").keys()
    )
