"""`mgie train resume=` of runs in every state."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

SMALL = (
    "experiment=smoke", "callbacks.evaluate=null", "data.batch_size=2",
    "data.num_examples={train: 14, val: 2, test: 1}", "callbacks.checkpoint.every_n_train_steps=2",
)  # fmt: skip

Compare = Callable[[Path, Path], None]


@pytest.fixture(scope="module")
def straight(server: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:  # noqa: ANN401
    folder: Path = tmp_path_factory.mktemp("straight") / "run"
    server.run("train", *SMALL, f"paths.run_dir={folder}")
    return folder


@pytest.fixture
def run_dir(straight: Path, tmp_path: Path) -> Path:
    shutil.copytree(straight, tmp_path / "run")
    return tmp_path / "run"


def content(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_a_run_that_has_ended_says_so(run_dir: Path, server: Any) -> None:  # noqa: ANN401
    before = content(run_dir)
    ended = server.run("train", f"resume={run_dir}")
    assert "this training has ended at step 4; nothing is left to do. A larger trainer.max_steps goes on" in ended.log
    assert content(run_dir) == before


def test_without_a_checkpoint_it_begins_anew(
    straight: Path,
    run_dir: Path,
    server: Any,  # noqa: ANN401
    assert_same_run: Compare,
) -> None:
    """Killed before the first one, while it was being recorded: nothing but the config is certain."""
    shutil.rmtree(run_dir / "checkpoints")
    (run_dir / "overrides").unlink()
    (run_dir / "versions.json").unlink()
    server.run("train", f"resume={run_dir}", "seed=0")
    assert_same_run(straight, run_dir)


@pytest.mark.faults
@pytest.mark.parametrize(
    "damage",
    ["no hash and cut off", *(pytest.param(name, marks=pytest.mark.slow) for name in ("cut off", "another hash"))],
)
def test_the_checkpoint_before_a_damaged_one(
    damage: str,
    straight: Path,
    run_dir: Path,
    server: Any,  # noqa: ANN401
    assert_same_run: Compare,
) -> None:
    newest = run_dir / "checkpoints" / "step-00000004.ckpt"
    digest = newest.with_name(newest.name + ".sha256")
    if damage == "another hash":
        digest.write_text(f"{'0' * 64}  {newest.name}\n")
    else:
        newest.write_bytes(newest.read_bytes()[: 1 << 16])
    if damage.startswith("no hash"):
        digest.unlink()
    ended = server.run("train", f"resume={run_dir}")
    assert "step-00000004.ckpt is damaged" in ended.log
    assert_same_run(straight, run_dir)


@pytest.mark.faults
def test_another_training_is_refused(run_dir: Path, server: Any) -> None:  # noqa: ANN401
    before = content(run_dir)
    ended = server.run("train", f"resume={run_dir}", "data.batch_size=4", "objective.loss_edit_weight=1", status=2)
    assert "data.batch_size: 2 -> 4" in ended.log
    assert "resume_allow=[objective.loss_edit_weight,data.batch_size]" in ended.log.replace("\n", " ") or (
        "resume_allow=[data.batch_size,objective.loss_edit_weight]" in ended.log
    )
    assert content(run_dir) == before


@pytest.mark.slow
def test_a_change_is_remembered_by_the_next_resume(run_dir: Path, server: Any) -> None:  # noqa: ANN401
    server.run("train", f"resume={run_dir}", "trainer.max_steps=5")
    assert (run_dir / "checkpoints" / "step-00000005.ckpt").is_file()
    ended = server.run("train", f"resume={run_dir}")
    assert "has ended at step 5" in ended.log
