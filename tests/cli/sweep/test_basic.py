from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mgie_lit.errors import CheckpointError, ConfigError, MGIEError
from mgie_lit.trials import FAILED, FINISHED, KILLED, RUNNING, STOPPED, TrialRecord

if TYPE_CHECKING:
    from tests.cli.sweep.conftest import App

LIST = "seed=0,1,2,3"


def test_trials_are_recorded(app: App) -> None:
    app(LIST, "optimizer.lr=0.01")
    assert app.states == [FINISHED] * 4
    assert app.values == [-2, -1, 0, 1]
    assert [record.number for record in app.records] == [0, 1, 2, 3]
    assert app.records[1].overrides == ("seed=1", "optimizer.lr=0.01")
    assert app.records[1].metric == "val/loss"
    assert all(record.ended for record in app.records)
    assert not any(run["sweep"] for run in app.runs), "how a sweep is run is no matter of a run"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("action", "state", "status"),
    [
        ("fault", FAILED, MGIEError),
        ("error", FAILED, SystemExit),
        ("killed", KILLED, SystemExit),
        ("exit", FAILED, SystemExit),
    ],
)
@pytest.mark.parametrize("batches", [[], ["hydra.sweeper.max_batch_size=1"]], ids=["one batch", "batches"])
def test_a_bad_trial_is_marked_and_stops_no_other(
    app: App, action: str, state: str, status: type[BaseException], batches: list[str]
) -> None:
    with pytest.raises(status):
        app(LIST, *batches, actions={1: action})
    assert app.states == [FINISHED, state, FINISHED, FINISHED]
    assert app.seeds == [0, 1, 2, 3]
    assert app.records[1].value is None
    assert app.records[1].error
    assert app.records[1].is_user_fault == (action == "fault")


@pytest.mark.faults
def test_status_and_messages_of_killed_trials(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="1"):
        app(LIST, actions={1: "killed", 2: "fault"})
    out, err = capsys.readouterr()
    assert "trial 1 (seed=1) killed: process 1 of 2 ended by signal 9" in err
    assert "mgie train: error: 2 of 4 trials of the sweep failed:" in err
    assert "Traceback" not in err
    assert [line.split()[:3] for line in out.splitlines()[2:4]] == [
        ["1", "seed=1", "killed"],
        ["2", "seed=2", "failed"],
    ]


@pytest.mark.faults
@pytest.mark.parametrize(("action", "why"), [("no value", "was never logged"), ("nan", "is nan at the end")])
def test_a_missing_value_is_said(app: App, action: str, why: str, capsys: pytest.CaptureFixture[str]) -> None:
    app(LIST, actions={0: action})
    assert app.records[0].state == FINISHED
    assert app.records[0].value is None
    assert app.records[0].error == f"optimized_metric: val/loss {why}, so that this trial has no value"
    out, err = capsys.readouterr()
    assert f"trial 0 (seed=0) finished: optimized_metric: val/loss {why}" in err
    assert "Best is trial 1 (seed=1)" in out


def test_direction_of_the_best(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app(LIST, "sweep.direction=maximize")
    out = capsys.readouterr().out
    assert "val/loss ↑" in out.splitlines()[0]
    assert "Best is trial 3 (seed=3): val/loss -1, higher is better" in out


@pytest.mark.faults
class TestFaults:
    def test_faulty_trials_are_told_before_any_runs(self, app: App, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(
            MGIEError, match=r"^1 of 3 trials of the sweep failed:\noptimizer\.lr: expected a number > 0"
        ):
            app("optimizer.lr=-1,1,2")
        assert app.states == [FAILED, FINISHED, FINISHED]
        err = capsys.readouterr().err
        told = err.index("trial 0 (optimizer.lr=-1) failed: optimizer.lr: expected a number > 0, got -1")
        assert told < err.index("Launching")

    def test_nothing_is_made_where_no_trial_can_run(self, app: App) -> None:
        with pytest.raises(ConfigError, match=r"^optimizer\.lr: expected a number > 0, got -1$"):
            app("optimizer.lr=-1", LIST)
        assert not app.sweep_dir.exists()

    def test_a_directory_with_a_sweep_is_not_used_again(self, app: App) -> None:
        app("seed=0,1")
        with pytest.raises(
            ConfigError, match=r"hydra\.sweep\.dir: expected a directory without a sweep, .*sweep\.resume="
        ):
            app("seed=5,6")
        assert app.seeds == [0, 1]

    def test_files_of_others_are_left_alone(self, app: App) -> None:
        (app.sweep_dir / "0").mkdir(parents=True)
        (app.sweep_dir / "0" / "notes").touch()
        app("seed=0,1")
        assert (app.sweep_dir / "0" / "notes").exists()

    def test_intervals_need_another_sweeper(self, app: App) -> None:
        with pytest.raises(
            ConfigError, match=r"optimizer\.lr=interval\(1,2\): expected values that can be listed.*optuna"
        ):
            app("optimizer.lr=interval(1,2)")

    def test_direction(self, app: App) -> None:
        with pytest.raises(ConfigError, match=r"sweep\.direction: expected minimize or maximize, got up"):
            app(LIST, "sweep.direction=up")

    def test_devices(self, app: App) -> None:
        with pytest.raises(ConfigError, match=r"sweep\.devices: expected a list of different ids, .* got \[0, 0\]"):
            app(LIST, "sweep.devices=[0,0]")


class TestSignals:
    @pytest.mark.parametrize(
        ("action", "error"), [("terminate", SystemExit), ("interrupt", KeyboardInterrupt)], ids=["SIGTERM", "Ctrl-C"]
    )
    def test_a_signal_ends_the_sweep_and_it_goes_on(
        self, app: App, action: str, error: type[BaseException], capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = signal.getsignal(signal.SIGTERM)
        with pytest.raises(error) as caught:
            app(LIST, actions={1: action})
        assert getattr(caught.value, "code", 143) == 143
        assert signal.getsignal(signal.SIGTERM) is before
        assert app.states == [FINISHED, STOPPED]
        assert f"go on with sweep.resume={app.sweep_dir}" in capsys.readouterr().err
        app.resume()
        assert app.states == [FINISHED] * 4
        assert app.seeds == [0, 1, 1, 2, 3]
        assert app.runs[2]["resume"] == str(app.sweep_dir / "1")
        assert app.records[1].attempts == 2


class TestResume:
    def test_finished_trials_keep_their_values(self, app: App) -> None:
        with pytest.raises(SystemExit):
            app(LIST, actions={1: "killed", 2: "error"})
        app.resume()
        assert app.states == [FINISHED] * 4
        assert app.seeds == [0, 1, 2, 3, 1, 2]
        assert app.values == [-4, -3, -2, -1]
        app.resume()
        assert len(app.seeds) == 6, "there was nothing left to run"

    def test_a_sweep_that_was_killed_goes_on(self, app: App) -> None:
        app("seed=0,1,2")
        dead = TrialRecord.read(app.sweep_dir / "1")
        assert dead is not None
        TrialRecord(1, dead.overrides, RUNNING, metric="val/loss", host=dead.host, pid=2**22 + 1).write(
            app.sweep_dir / "1"
        )
        (app.sweep_dir / "1" / "checkpoint").unlink()  # it left nothing to go on from
        (app.sweep_dir / "1" / "metrics.csv").touch()
        for path in (app.sweep_dir / "2").iterdir():
            path.unlink()
        app.resume()
        assert app.states == [FINISHED] * 3
        assert app.seeds == [0, 1, 2, 1, 2]
        assert app.runs[3]["resume"] is None
        assert not (app.sweep_dir / "1" / "metrics.csv").exists(), "it began anew"

    def test_a_trial_that_runs_elsewhere_is_not_run_twice(self, app: App) -> None:
        app("seed=0,1")
        record = TrialRecord.begin(1, ("seed=1",), metric="val/loss", attempts=1)
        init = TrialRecord(**{**vars(record), "pid": 1, "process_start": _start_of(1)})
        init.write(app.sweep_dir / "1")
        assert init.is_alive
        with pytest.raises(SystemExit):
            app.resume()
        assert app.seeds == [0, 1]

    def test_the_sweep_is_what_it_was(self, app: App) -> None:
        app("seed=0,1", "optimizer.lr=0.1", "sweep.direction=maximize")
        (app.sweep_dir / "1" / "trial.json").unlink()
        app.resume("seed=0,1", "hydra.verbose=false")  # typed once more, and what changes no trial
        assert [run["lr"] for run in app.runs] == [0.1] * 3

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("typed", "message"),
        [
            (
                "optimizer.lr=2",
                r"optimizer\.lr=2: expected nothing that changes .* \(this one was started without it; ",
            ),
            (
                "seed=0,1,2",
                r"seed=0,1,2: expected nothing that changes .* \(this one has seed=0,1; .*start a new sweep",
            ),
            ("hydra/sweeper=optuna", r"hydra/sweeper=optuna: expected nothing that changes the trials"),
        ],
    )
    def test_other_trials_are_refused(self, app: App, typed: str, message: str) -> None:
        app("seed=0,1")
        with pytest.raises(ConfigError, match=message):
            app.resume(typed)
        assert app.seeds == [0, 1]

    @pytest.mark.faults
    def test_what_is_no_sweep(self, app: App) -> None:
        with pytest.raises(CheckpointError, match=r"sweep\.resume: expected the directory of a sweep, .* no folder"):
            app.resume()
        app.sweep_dir.mkdir()
        with pytest.raises(CheckpointError, match=r"a folder without sweep\.yaml"):
            app.resume()
        (app.sweep_dir / "sweep.yaml").write_text("[1")
        with pytest.raises(CheckpointError, match=r"sweep\.yaml: expected the record of a sweep, can not read it"):
            app.resume()

    @pytest.mark.faults
    def test_a_sweep_of_another_command(self, app: App) -> None:
        app("seed=0,1")
        with pytest.raises(ConfigError, match=r"expected a sweep of mgie eval, got one of mgie train"):
            app.resume(command="eval")

    @pytest.mark.faults
    def test_a_changed_list_is_refused(self, app: App) -> None:
        experiment = app.tree / "experiment" / "smoke.yaml"
        params = "\nhydra: {mode: MULTIRUN, sweeper: {params: {seed: '%s'}}}\n"
        text = "# @package _global_\n"
        experiment.write_text(text + params % "0,1")
        app("experiment=smoke")
        experiment.write_text(text + params % "5,1")
        with pytest.raises(ConfigError, match=r"trial 0: expected .* to be its own, .* with seed=0 .* has seed=5"):
            app.resume()
        assert app.seeds == [0, 1]


def _start_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19])


def test_two_sweeps_of_one_moment(
    app: App, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from mgie_lit.config import resolvers

    monkeypatch.setattr(resolvers, "_TIME_FORMAT", "one-moment")
    app.place = []
    for _ in range(2):
        app("seed=0,1")
    folders = [line for line in capsys.readouterr().out.splitlines() if line.startswith("/")]
    assert [Path(folder).name for folder in folders] == ["one-moment", "one-moment_2"]
    for folder in folders:
        assert [path.name for path in sorted(Path(folder).glob("*/trial.json"))] == ["trial.json"] * 2
        assert json.loads((Path(folder) / "0" / "trial.json").read_text())["state"] == FINISHED
