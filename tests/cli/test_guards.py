"""Whole trainings that lose a loader process, or that a second one wants to take over."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.faults]

LONG = ["experiment=smoke", "callbacks.evaluate=null", "trainer.max_steps=1000", "trainer.val_check_interval=1000"]
COMMAND = [sys.executable, "-m", "mgie_lit.cli.main", "train"]


@pytest.fixture
def training(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A long training with a loader process, after its first steps."""
    run_dir = tmp_path / "run"
    process = subprocess.Popen(
        [*COMMAND, *LONG, "data.num_workers=1", f"paths.run_dir={run_dir}"],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list((run_dir / "checkpoints").glob("*.ckpt")):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.1)
    yield process
    process.kill()
    process.communicate()


def children(pid: int) -> list[int]:
    paths = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for path in paths for child in path.read_text().split()]


def test_killed_loader_process(training: subprocess.Popen[str]) -> None:
    workers = children(training.pid)
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    _, errors = training.communicate(timeout=60)
    assert training.returncode == 2, errors
    assert "Traceback" not in errors
    assert "the last sample that it began was train-0000" in errors


def test_second_process_is_refused(training: subprocess.Popen[str], tmp_path: Path) -> None:
    second = subprocess.run(
        [*COMMAND, f"resume={tmp_path / 'run'}"], capture_output=True, text=True, check=False, timeout=100
    )
    assert second.returncode == 2, second.stderr
    assert f"resume: expected a run directory that no process works on, but process {training.pid} on" in second.stderr
    assert training.poll() is None
