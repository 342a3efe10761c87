"""Trials in the processes of the joblib launcher."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mgie_lit.errors import MGIEError
from mgie_lit.trials import FAILED, FINISHED, KILLED, STOPPED

pytest.importorskip("hydra_plugins.hydra_joblib_launcher", reason="needs the extra mgie-lit[sweep]")
pytestmark = pytest.mark.usefixtures("by_value")

if TYPE_CHECKING:
    from tests.cli.sweep.conftest import App

PAIR = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.fixture(autouse=True)
def _locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))


def test_trials_at_once_have_devices_of_their_own(app: App) -> None:
    """Four devices, two a trial: two trials run at once, each with its own, whatever its worker had before."""
    app("seed=0,1,2,3", *PAIR, "sweep.devices=[0,1,2,3]", "trainer.devices=2", "trainer.accelerator=gpu", seconds=1.5)
    assert app.states == [FINISHED] * 4
    assert {run["devices"] for run in app.runs} == {"0,1", "2,3"}
    assert all(record.devices in (("0", "1"), ("2", "3")) for record in app.records)
    runs = sorted(app.runs, key=lambda run: run["began"])
    for index, one in enumerate(runs):
        for later in runs[index + 1 :]:
            assert later["began"] > one["ended"] or later["devices"] != one["devices"]
    assert {run["pid"] for run in app.runs} & {os.getpid()} == set()


@pytest.mark.faults
def test_more_devices_than_there_are(app: App) -> None:
    message = r"1 of 2 trials of the sweep failed:\ntrainer\.devices: expected at most the 2 devices that the sweep has"
    with pytest.raises(MGIEError, match=message):
        app("trainer.devices=1,3", "sweep.devices=[0,1]")
    assert app.states == [FINISHED, FAILED]


@pytest.mark.faults
def test_one_directory_although_each_worker_composes(app: App, monkeypatch: pytest.MonkeyPatch) -> None:
    app.place = []  # a name made from the time, which goes on
    with pytest.raises(MGIEError, match="1 of 3 trials"):
        app("seed=0,1,2", *PAIR, actions={1: "fault"}, seconds=1.1)
    (app.sweep_dir,) = Path("runs/multirun").iterdir()
    assert app.states == [FINISHED, FAILED, FINISHED]


@pytest.mark.faults
def test_a_worker_that_dies_takes_no_other_trial_with_it(app: App) -> None:
    with pytest.raises(SystemExit, match="1"):
        app("seed=0,1,2,3", *PAIR, actions={1: "die"}, seconds=0.5)
    assert app.states == [FINISHED, KILLED, FINISHED, FINISHED], "those that ran beside it began once more"
    assert app.records[1].attempts == 2


def test_a_signal_to_the_sweep_ends_all(app: App) -> None:
    def tell() -> None:
        while len(app.states) < 2:
            time.sleep(0.1)
        time.sleep(0.5)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=tell, daemon=True).start()
    with pytest.raises(SystemExit, match="143"):
        app("seed=0,1,2,3", *PAIR, seconds=60)
    assert app.states == [STOPPED] * 2
    app.resume()
    assert app.states == [FINISHED] * 4
