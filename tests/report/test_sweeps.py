from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
import yaml

from mgie_lit.errors import CheckpointError
from mgie_lit.report.sweeps import DONE, FAILED, is_sweep, read_all, trial_table

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Make = Callable[..., Path]


def write_overrides(trial: Path, rate: float) -> None:
    (trial / "overrides").write_text(
        yaml.safe_dump(["experiment=smoke", f"optimizer.lr={rate}", f"paths.run_dir={trial}"])
    )


@pytest.fixture
def sweep_dir(tmp_path: Path, make_run: Make) -> Path:
    """Two trials that ended, one that stopped, one that failed at once, one that failed after its overrides."""
    folder = tmp_path / "multirun" / "today"
    for index, steps in enumerate((300, 300, 120)):
        trial = make_run(folder / str(index), steps)
        write_overrides(trial, 10.0**-index)
    (folder / "3").mkdir()
    (folder / "4").mkdir()
    write_overrides(folder / "4", 7)
    (folder / "multirun.yaml").write_text("hydra: {sweeper: {direction: null}}\n")
    return folder


def test_all_trials_are_listed_and_failed_ones_marked(sweep_dir: Path) -> None:
    runs, evaluations, (sweep,) = read_all([sweep_dir])
    assert [run.name for run in runs] == ["today/0", "today/1", "today/2"]
    assert evaluations == []
    assert [trial.state for trial in sweep.trials] == [DONE, DONE, "stopped at step 120 of 300", FAILED, FAILED]
    table = trial_table(sweep)
    assert table.columns == ["trial", "overrides", "state", "val/loss ↓"]
    assert [row.kind for row in table.rows] == ["", "", "failed", "failed", "failed"]
    given = [row.cells[0].value for row in table.rows]
    assert given == ["optimizer.lr=1.0", "optimizer.lr=0.1", "optimizer.lr=0.01", "not recorded", "optimizer.lr=7"]
    assert table.rows[3].cells[2].value == "\N{EN DASH}"
    best = table.records[0]["value"]
    assert table.note == (
        f"Best is trial 0 (optimizer.lr=1.0): val/loss {best:.6g}, lower is better. "
        "5 trials, 3 not done. Overrides that all trials share are left out."
    )
    assert table.records[0]["optimized_metric"] == "val/loss"
    assert table.records[3]["value"] is None


def test_the_best_finished_trial_is_bold(sweep_dir: Path) -> None:
    curves = (sweep_dir / "1" / "metrics.csv").read_text().splitlines()
    place = curves[0].split(",").index("val/loss")
    for number, value in ((1, "0.001"), (2, "0.0001")):
        file = sweep_dir / str(number) / "metrics.csv"
        rows = [line.split(",") for line in file.read_text().splitlines()]
        for row in rows[1:]:
            row[place] = value if row[place] else ""
        file.write_text("\n".join(",".join(row) for row in rows))
    marks = lambda: [row.cells[2].mark for row in trial_table(read_all([sweep_dir])[2][0]).rows]  # noqa: E731
    assert marks() == ["", "best", "", "", ""]  # 2 has less, but did not end
    (sweep_dir / "multirun.yaml").write_text("hydra: {sweeper: {direction: maximize}}\n")
    assert marks() == ["best", "", "", "", ""]


def test_a_checkpoint_of_the_last_step_says_that_a_run_ended(sweep_dir: Path) -> None:
    (sweep_dir / "2" / "checkpoints").mkdir()
    (sweep_dir / "2" / "checkpoints" / "step-00000300.ckpt").touch()
    assert read_all([sweep_dir])[2][0].trials[2].state == DONE


def test_trials_of_evaluations_show_their_metrics(tmp_path: Path, make_evaluation: Make) -> None:
    for index in range(2):
        make_evaluation(tmp_path / "sweep" / str(index), 6, pictures=False)
    (_, evaluations, (sweep,)) = read_all([tmp_path / "sweep"])  # without multirun.yaml too
    assert len(evaluations) == 2
    table = trial_table(sweep)
    assert table.columns == ["trial", "overrides", "state", "L1 ↓", "SSIM ↑", "PSNR ↑", "Expressive text exact ↑"]
    assert table.rows[0].cells[0].value == "none of its own"
    assert table.rows[0].cells[2].interval


def test_a_folder_of_sweeps_gives_all(sweep_dir: Path) -> None:
    shutil.copytree(sweep_dir, sweep_dir.parent / "later")
    runs, _, sweeps = read_all([sweep_dir.parent])
    assert [sweep.path.name for sweep in sweeps] == ["later", "today"]
    assert len(runs) == 6


def test_a_run_is_no_sweep(tmp_path: Path, make_run: Make) -> None:
    run = make_run(tmp_path / "run", 3)
    (run / "0").mkdir()
    assert not is_sweep(run)
    assert not is_sweep(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="expected a training run"):
        read_all([tmp_path / "empty"])


def test_a_sweep_whose_trials_all_failed(tmp_path: Path) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    runs, evaluations, (sweep,) = read_all([tmp_path / "sweep"])
    assert (runs, evaluations) == ([], [])
    assert trial_table(sweep).rows[0].kind == "failed"
