"""Going on after a Slurm job's time is up."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning

from mgie_lit.training.termination import TERMINATED

LOG = logging.getLogger(__name__)
_SCONTROL_SECONDS = 60.0


class SlurmRequeue(lightning.Callback):
    """Puts a Slurm job back into the queue when it gets SIGUSR1, after a checkpoint.

    Ask Slurm for the signal some time before the end: ``#SBATCH --signal=USR1@300``, ``#SBATCH --requeue``. A note
    below ``root`` tells the job that starts again, with the same command, which run it goes on with.

    Args:
        run_dir: Of this run.
        root: Where notes of jobs are kept.
    """

    def __init__(self, run_dir: str | Path, root: str | Path) -> None:
        self.run_dir = Path(run_dir)
        self.root = Path(root)
        self._previous_handler: Any = None
        self._is_asked = False

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Listen, in a job of Slurm."""
        if "SLURM_JOB_ID" in os.environ and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGUSR1, self._note)

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Requeue, if this is the end that was asked for: the checkpoint has been written."""
        ends_well = isinstance(exception, SystemExit) and exception.code == TERMINATED
        if self._is_asked and ends_well and trainer.is_global_zero:
            job = os.environ["SLURM_JOB_ID"]
            note = note_of(self.root, job)
            with note.open("a", encoding="utf-8") as file:
                file.write(f"{self.run_dir.absolute()}\n")
            _requeue(job)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give the signal back."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGUSR1, self._previous_handler)
            self._previous_handler = None

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._is_asked = True
        os.kill(os.getpid(), signal.SIGTERM)  # all processes agree on the end as they do on any other


def note_of(root: Path, job: str) -> Path:
    """Where the runs of a job are noted that it is to go on with, a line each."""
    return root / f".slurm-{job}"


def _requeue(job: str) -> None:
    try:
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=_SCONTROL_SECONDS, check=False
        )
        fault = done.stderr.strip() if done.returncode else ""
    except (OSError, subprocess.TimeoutExpired) as error:
        fault = str(error)
    if fault:
        LOG.warning("scontrol requeue %s: %s; go on by hand with resume=<run dir>", job, fault)
    else:
        LOG.info("job %s is in the queue again", job)
