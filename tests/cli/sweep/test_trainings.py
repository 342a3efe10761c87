"""Sweeps of whole trainings through the command line: what is killed, and what each process really used."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mgie_lit.trials import FINISHED, KILLED, STOPPED, TrialRecord

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]  # two sweeps each, on machines that do other things too

SMOKE = [
    *("experiment=smoke", "callbacks.evaluate=null", "trainer.accelerator=cpu", "trainer.max_steps=2"),
    *("data.batch_size=2", "data.num_examples.val=2"),
]
PAIR = ["trainer=ddp", "trainer.devices=2"]
OPTUNA = ["hydra/sweeper=optuna", "optimizer.lr=tag(log,interval(1e-5,1e-2))", "hydra.sweeper.sampler.seed=3"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
LONG = ["trainer.max_steps=12", "trainer.val_check_interval=12", "callbacks.checkpoint.every_n_train_steps=3"]
# Runs when a process starts: each rank writes down what its optimizer uses.
PROBE = """
import json, os, sys
if "mgie_lit.cli.rank" in sys.orig_argv:
    from torch.optim.optimizer import register_optimizer_step_pre_hook
    def note(optimizer, args, kwargs):
        rates = sorted({group["initial_lr"] for group in optimizer.param_groups})
        folder = os.path.dirname(sys.argv[1])
        with open(os.path.join(folder, "used-by-rank-" + os.environ["RANK"]), "w") as file:
            json.dump({"rates": rates, "port": os.environ["MASTER_PORT"], "size": os.environ["WORLD_SIZE"]}, file)
    register_optimizer_step_pre_hook(note)
"""


@pytest.fixture
def sweep_dir(tmp_path: Path) -> Iterator[Path]:
    """A sweep's directory that no process works for when the test ends."""
    yield tmp_path / "sweep"
    deadline = time.monotonic() + 10
    while processes_of(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert processes_of(tmp_path) == [], "a process was left"


def start(*arguments: str | Path, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "mgie_lit.cli.main", "train", "-m", *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def sweep(*arguments: str | Path, status: int = 0, **environment: str) -> tuple[str, str]:
    process = start(*arguments, **environment)
    out, err = process.communicate(timeout=900)
    assert process.returncode == status, out + err
    return out, err


def processes_of(folder: Path) -> list[int]:
    """Processes of trainings below a folder."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:  # it has ended meanwhile
            continue
        if "mgie_lit.cli" in command and str(folder) in command:
            found.append(int(path.parent.name))
    return found


def wait_for(condition: Callable[[], object], seconds: float = 600) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.05)


def records(folder: Path) -> list[TrialRecord]:
    found = [TrialRecord.read(path.parent) for path in folder.glob("*/trial.json")]
    return sorted((one for one in found if one), key=lambda one: one.number)


def has_checkpoint(trial: Path) -> bool:
    return any((trial / "checkpoints").glob("step-*.ckpt"))


@pytest.mark.parametrize("launcher", [[], JOBLIB], ids=["basic", "joblib"])
def test_ranks_of_an_optuna_trial_train_with_one_rate(launcher: list[str], sweep_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PROBE)
    path = os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    given = [f"hydra.sweep.dir={sweep_dir}", *SMOKE, *OPTUNA, *PAIR, *launcher, "hydra.sweeper.n_trials=2"]
    sweep(*given, PYTHONPATH=path)
    rates = set()
    for trial in ("0", "1"):
        used = [json.loads((sweep_dir / trial / f"used-by-rank-{rank}").read_text()) for rank in (0, 1)]
        assert used[0] == used[1]
        assert used[0]["size"] == "2"
        (record,) = [one for one in records(sweep_dir) if one.number == int(trial)]
        assert max(used[0]["rates"]) == pytest.approx(float(record.overrides[0].partition("=")[2]), rel=1e-12)
        rates.add(tuple(used[0]["rates"]))
    assert len(rates) == 2
    assert sorted(path.name for path in sweep_dir.iterdir() if path.is_dir()) == ["0", "1"]


@pytest.mark.parametrize(
    "how", [[], [*JOBLIB], [*PAIR], [*JOBLIB, *PAIR]], ids=["basic", "joblib", "ddp", "joblib ddp"]
)
def test_a_killed_trial_stops_no_other(how: list[str], sweep_dir: Path) -> None:
    process = start(f"hydra.sweep.dir={sweep_dir}", *SMOKE, *LONG, *how, "seed=0,1,2")
    wait_for(lambda: has_checkpoint(sweep_dir / "1"))
    os.kill(max(processes_of(sweep_dir / "1")), signal.SIGKILL)
    out, err = process.communicate(timeout=900)
    assert process.returncode == 1, out + err
    assert [record.state for record in records(sweep_dir)] == [FINISHED, KILLED, FINISHED]
    assert "trial 1 (seed=1) killed: process" in err
    out, err = sweep(f"sweep.resume={sweep_dir}")
    assert [record.state for record in records(sweep_dir)] == [FINISHED] * 3
    assert "going on after step" in err


@pytest.mark.parametrize("how", [JOBLIB, [*JOBLIB, *PAIR]], ids=["one process", "two"])
@pytest.mark.parametrize(("signum", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["SIGTERM", "Ctrl-C"])
def test_a_signal_ends_all_trials_with_checkpoints(
    how: list[str], signum: signal.Signals, status: int, sweep_dir: Path
) -> None:
    long = ["trainer.max_steps=1000", "callbacks.checkpoint.every_n_train_steps=900"]
    process = start(f"hydra.sweep.dir={sweep_dir}", *SMOKE, *long, *how, "seed=0,1,2")
    wait_for(lambda: all((sweep_dir / trial / "metrics.csv").exists() for trial in ("0", "1")))
    process.send_signal(signum)
    out, err = process.communicate(timeout=600)
    assert process.returncode == status, out + err
    assert [record.state for record in records(sweep_dir)] == [STOPPED] * 2
    assert all(has_checkpoint(sweep_dir / trial) for trial in ("0", "1"))
    assert f"go on with sweep.resume={sweep_dir}" in err
    assert not (sweep_dir / "2").exists() or TrialRecord.read(sweep_dir / "2") is None


@pytest.mark.parametrize("how", [["seed=0,1,2"], ["seed=0,1,2", *JOBLIB], [*OPTUNA, "hydra.sweeper.n_trials=3"]])
def test_a_killed_sweep_ends_as_a_straight_one(how: list[str], sweep_dir: Path, tmp_path: Path) -> None:
    given = [*SMOKE, *LONG, *how]
    straight_dir = tmp_path / "straight"
    straight, _ = sweep(f"hydra.sweep.dir={straight_dir}", *given)
    process = start(f"hydra.sweep.dir={sweep_dir}", *given)
    wait_for(lambda: has_checkpoint(sweep_dir / "1"))
    process.kill()
    process.communicate()
    wait_for(lambda: not processes_of(sweep_dir), 10)
    done_before = [record for record in records(sweep_dir) if record.is_over]
    continued, _ = sweep(f"sweep.resume={sweep_dir}")
    assert records(sweep_dir)[: len(done_before)] == done_before, "finished trials were not touched"
    table = lambda text, folder: text[text.index("trial ") :].replace(str(folder), "")  # noqa: E731
    assert table(continued, sweep_dir) == table(straight, straight_dir)
    assert [record.value for record in records(sweep_dir)] == [record.value for record in records(straight_dir)]
    for number in range(3):
        assert losses(sweep_dir / str(number)) == losses(straight_dir / str(number))


def losses(run_dir: Path) -> list[str]:
    with (run_dir / "metrics.csv").open() as file:
        return [row["train/loss"] + row["val/loss"] for row in csv.DictReader(file)]


@pytest.mark.parametrize("pair", [[], PAIR], ids=["one process", "two"])
def test_submitit_in_local_mode(pair: list[str], sweep_dir: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher", reason="needs the extra mgie-lit[sweep]")
    out, _ = sweep(f"hydra.sweep.dir={sweep_dir}", *SMOKE, *pair, "hydra/launcher=submitit_local", "seed=0,1")
    assert [record.state for record in records(sweep_dir)] == [FINISHED] * 2
    assert out.splitlines()[-1] == str(sweep_dir)


def test_a_metric_that_is_never_logged(sweep_dir: Path) -> None:
    settings = [*OPTUNA, "hydra.sweeper.n_trials=1", "optimized_metric=val/nothing"]
    _, err = sweep(f"hydra.sweep.dir={sweep_dir}", *SMOKE, *settings, status=2)
    assert "optimized_metric: val/nothing was never logged; logged were" in err
    assert "trial 0 (" in err
    assert (
        records(sweep_dir)[0].error == "optimized_metric: val/nothing was never logged, so that this trial has no value"
    )
