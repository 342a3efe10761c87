from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import yaml

from mgie_lit.errors import ConfigError, MGIEError
from mgie_lit.trials import FAILED, FINISHED, KILLED, RUNNING, STOPPED, TrialRecord

optuna = pytest.importorskip("optuna", reason="needs the extra mgie-lit[sweep]")
pytest.importorskip("hydra_plugins.hydra_optuna_sweeper", reason="needs the extra mgie-lit[sweep]")

if TYPE_CHECKING:
    from tests.cli.sweep.conftest import App

RATE = "optimizer.lr=tag(log,interval(1e-4,1e-1))"
SWEEP = ["hydra/sweeper=optuna", RATE, "hydra.sweeper.n_trials=4", "hydra.sweeper.sampler.n_startup_trials=2"]


def study_of(app: App) -> optuna.Study:
    return optuna.load_study(study_name="sweep", storage=f"sqlite:///{app.sweep_dir}/optuna.db")


def rates(app: App) -> list[float]:
    return [float(record.overrides[0].partition("=")[2]) for record in app.records]


def test_values_reach_the_study(app: App, capsys: pytest.CaptureFixture[str]) -> None:
    app(*SWEEP, "seed=3", "sweep.direction=maximize")
    study = study_of(app)
    assert study.direction == optuna.study.StudyDirection.MAXIMIZE
    assert [trial.value for trial in study.trials] == app.values
    assert [trial.params["optimizer.lr"] for trial in study.trials] == rates(app) == [run["lr"] for run in app.runs]
    assert app.seeds == [3] * 4
    best = max(range(4), key=lambda number: app.values[number] or 0)
    assert f"Best is trial {best} (optimizer.lr={rates(app)[best]})" in capsys.readouterr().out
    results = yaml.safe_load((app.sweep_dir / "optimization_results.yaml").read_text())
    assert results == {
        "name": "optuna",
        "best_params": {"optimizer.lr": rates(app)[best]},
        "best_value": app.values[best],
    }


@pytest.mark.faults
@pytest.mark.parametrize("action", ["fault", "killed", "no value", "nan"])
def test_a_bad_trial_is_told_as_failed(app: App, action: str) -> None:
    space = ["hydra/sweeper=optuna", "seed=0,1", "hydra/sweeper/sampler=grid", "hydra.sweeper.n_jobs=1"]
    with pytest.raises((MGIEError, SystemExit)):
        app(*space, actions={1: action})
    by_seed = {trial.params["seed"]: trial for trial in study_of(app).trials}
    assert {seed: trial.state.name for seed, trial in by_seed.items()} == {0: "COMPLETE", 1: "FAIL"}
    assert by_seed[1].value is None
    assert sorted(app.states) == sorted([FINISHED, KILLED if action == "killed" else FAILED])
    assert len(app.runs) == 2


@pytest.mark.faults
def test_faulty_proposals_fail_alone(app: App) -> None:
    with pytest.raises(MGIEError, match=r"1 of 2 trials of the sweep failed:\noptimizer\.lr: expected a number > 0"):
        app("hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "optimizer.lr=1,0")
    assert sorted(app.states) == [FAILED, FINISHED]


@pytest.mark.faults
def test_too_many_failures_end_it(app: App) -> None:
    with pytest.raises(MGIEError, match=r"max_failure_rate: expected at most 0\.4 of the trials .*, 2 of 2 did"):
        app(*SWEEP, "seed=1", "hydra.sweeper.max_failure_rate=0.4", "hydra.sweeper.n_jobs=2", actions={1: "fault"})
    assert len(app.records) == 2


@pytest.mark.faults
def test_a_space_is_needed(app: App) -> None:
    with pytest.raises(ConfigError, match=r"hydra/sweeper=optuna: expected something to draw from"):
        app("hydra/sweeper=optuna", "seed=1")


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    ("sampler", "n_jobs", "dies_at"),
    [
        ("tpe", 2, 3),
        pytest.param("tpe", 1, 3, marks=SLOW),
        *(pytest.param("tpe", n_jobs, dies_at, marks=SLOW) for n_jobs in (1, 2) for dies_at in (0, 5)),
        *(pytest.param("random", n_jobs, dies_at, marks=SLOW) for n_jobs in (1, 2) for dies_at in (0, 3)),
    ],
)
def test_a_sweep_that_died_proposes_what_a_straight_one_does(
    app: App, sampler: str, n_jobs: int, dies_at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As SIGKILL leaves it: the study says asked, the trial's record says running by a process that is gone."""
    settings = ["hydra/sweeper=optuna", RATE, "hydra.sweeper.n_trials=6", "hydra.sweeper.sampler.seed=7"]
    settings += [f"hydra/sweeper/sampler={sampler}", f"hydra.sweeper.n_jobs={n_jobs}"]
    settings += ["hydra.sweeper.sampler.n_startup_trials=2"] if sampler == "tpe" else []
    app(*settings)
    straight = (rates(app), app.values)
    assert len(set(straight[0])) == 6
    app.sweep_dir = app.workplace / "interrupted"
    app.place = [f"hydra.sweep.dir={app.sweep_dir}"]
    app.log.unlink()
    with pytest.raises(Died):
        dying(app, monkeypatch, settings, dies_at)
    assert [record.state for record in app.records].count(RUNNING) == 1
    app.resume()
    assert (rates(app), app.values) == straight
    assert [trial.state.name for trial in study_of(app).trials] == ["COMPLETE"] * 6
    assert len(app.runs) == 6, "finished trials ran once; the job that died had not written down that it ran"
    assert app.runs[dies_at]["resume"] == str(app.sweep_dir / str(dies_at))


class Died(BaseException):
    pass


def dying(app: App, monkeypatch: pytest.MonkeyPatch, settings: list[str], number: int) -> None:
    """Run a sweep that ends without a word in the middle of a trial."""
    from mgie_lit.cli.sweep.task import TrialTask

    run = TrialTask.__call__

    def die(self: TrialTask, config: object) -> float | None:
        from hydra.core.hydra_config import HydraConfig

        if HydraConfig.get().job.num == number:
            directory = self.sweep_dir / str(number)
            begun = TrialRecord.begin(number, tuple(HydraConfig.get().overrides.task), metric="val/loss", attempts=1)
            TrialRecord(**{**vars(begun), "pid": 2**22 + 1}).write(directory)
            (directory / "checkpoint").touch()
            raise Died
        return run(self, config)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(TrialTask, "__call__", die)
        app(*settings)


def test_more_trials_after_the_end(app: App) -> None:
    """In a directory that was renamed."""
    app(*SWEEP[:2], "hydra.sweeper.n_trials=2")
    app.sweep_dir = app.sweep_dir.rename(app.workplace / "elsewhere")
    app.resume("hydra.sweeper.n_trials=4")
    assert len(app.runs) == len(app.records) == len(study_of(app).trials) == 4
    app.resume()
    assert len(app.runs) == 4


def test_a_signal_leaves_trials_to_go_on_with(app: App) -> None:
    with pytest.raises(SystemExit, match="143"):
        app(*SWEEP, "seed=1", "hydra.sweeper.n_jobs=2", actions={1: "terminate"})
    assert app.states == [STOPPED]
    assert [trial.state.name for trial in study_of(app).trials] == ["RUNNING", "RUNNING"]
    app.resume()
    assert app.states == [FINISHED] * 4
    assert [trial.state.name for trial in study_of(app).trials] == ["COMPLETE"] * 4


def test_killed_trials_stay_so(app: App) -> None:
    """Later proposals were made without them."""
    with pytest.raises(SystemExit, match="1"):
        app(*SWEEP, "seed=1", actions={1: "killed"})
    assert app.states == [KILLED] * 4
    with pytest.raises(SystemExit, match="1"):
        app.resume()
    assert len(app.runs) == 4


@pytest.mark.parametrize("sampler", ["grid", pytest.param("cmaes", marks=SLOW), pytest.param("nsgaii", marks=SLOW)])
def test_other_samplers(app: App, sampler: str) -> None:
    space = ["optimizer.lr=1,2,3"] if sampler == "grid" else [RATE, "+depth=interval(0.0,1.0)"]
    app("hydra/sweeper=optuna", f"hydra/sweeper/sampler={sampler}", *space, "hydra.sweeper.n_trials=5")
    assert len(app.records) == (3 if sampler == "grid" else 5)
    assert len({record.overrides for record in app.records}) == len(app.records)
