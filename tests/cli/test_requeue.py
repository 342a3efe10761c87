"""A Slurm job whose time is up saves, is put back into the queue, and goes on with its own run."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults]

TRAIN = [
    sys.executable, "-m", "mgie_lit.cli.main", "train", "experiment=smoke", "callbacks=[default,requeue]",
    "~callbacks.evaluate", "callbacks.checkpoint.every_n_train_steps=900", "trainer.val_check_interval=1000",
]  # fmt: skip
PAIR = ["trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "data.batch_size=2"]


@pytest.mark.parametrize("pair", [[], PAIR], ids=["one process", "two"])
def test_requeued_job_goes_on(pair: list[str], tmp_path: Path) -> None:
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    environment = {
        **os.environ, "OMP_NUM_THREADS": "1", "PATH": f"{scontrol.parent}:{os.environ['PATH']}", "SLURM_JOB_ID": "4711",
        "SLURM_NTASKS": "1", "SLURM_JOB_NAME": "train",
    }  # fmt: skip
    command = [*TRAIN, *pair, "trainer.max_steps=300"]
    first = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("runs/train/*/metrics.csv")):
        assert first.poll() is None, first.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    first.send_signal(signal.SIGUSR1)
    _, errors = first.communicate(timeout=100)
    assert first.returncode == 143, errors
    assert (tmp_path / "asked").read_text() == "requeue 4711\n"
    [run_dir] = tmp_path.glob("runs/train/*")
    [saved] = run_dir.glob("checkpoints/*.ckpt")

    second = subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True)
    while (run_dir / "metrics.csv").read_text().count("\n") < int(saved.stem.rpartition("-")[2]) + 3:
        assert second.poll() is None, second.communicate()
        time.sleep(0.1)
    second.terminate()
    second.communicate(timeout=100)
    assert list(tmp_path.glob("runs/train/*")) == [run_dir], "no second run"
    with (run_dir / "metrics.csv").open(newline="") as file:
        steps = [int(row["step"]) for row in csv.DictReader(file)]
    assert steps == list(range(len(steps)))
