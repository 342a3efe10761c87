"""The processes of one training: started together, given one resolved config, ended together."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.cli.messages import ShownError
from mgie_lit.cli.rank import ERROR_SUFFIX, TERMINATED, result_path
from mgie_lit.config.runs import PROCESSES_PREFIX
from mgie_lit.errors import MGIEError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mgie_lit.config.run import Training

POLL_SECONDS = 0.1
GRACE_SECONDS = 5.0  # for the other processes to end by themselves after one failed
TERMINATION_SECONDS = 20.0  # for the others after one has ended as it was asked to
IMPATIENCE_SECONDS = 1.0  # after which another Ctrl-C means "now"; the first may arrive twice
_ASKED = (TERMINATED, -signal.SIGTERM)  # the second before a training listens


class ProcessError(ShownError):
    """A process of the group ended with an error that is not the user's."""


class ProcessKilledError(ProcessError):
    """A process of the group ended without a word, e.g. by a signal."""


@dataclass(slots=True)
class _Process:
    """One rank."""

    rank: int
    handle: subprocess.Popen[bytes]


def launch(training: Training, num_processes: int) -> float | None:
    """Run a training in several processes of this machine and wait for all of them.

    Every process reads the same resolved config; none composes its own. When one ends with an error the others are
    ended, and its error is raised here. No process outlives this one.

    Args:
        training: What to run; it is handed over in a folder in the run's directory, which is removed at the end.
        num_processes: At least 1; one process apart from this one leaves nothing behind in it, however it ends.

    Returns:
        What rank 0 gave.

    Raises:
        MGIEError: A process failed by the user's fault; the message is its own.
        ProcessKilledError: A process ended without a word.
        ProcessError: A process failed otherwise; its traceback has been shown.
        SystemExit: The processes were asked to end by SIGTERM, and did after a checkpoint.
        KeyboardInterrupt: They were asked by Ctrl-C, and did the same; or at once, by a second one.
    """
    folder = training.run_dir / f"{PROCESSES_PREFIX}{os.getpid()}"
    folder.mkdir(parents=True)
    try:
        training.write(folder)
        processes = _start(folder, num_processes)
        with _forwarded_signals(processes) as received:
            lost = _wait(processes, folder)
        _raise_first_error(processes, folder, lost, received)
        value: float | None = json.loads(result_path(folder, 0).read_text(encoding="utf-8"))
        return value
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _start(folder: Path, num_processes: int) -> list[_Process]:
    shared = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(num_processes),
    }
    command = [sys.executable, "-m", "mgie_lit.cli.rank", str(folder), str(os.getpid())]
    return [
        _Process(rank, subprocess.Popen(command, env={**shared, "RANK": str(rank), "LOCAL_RANK": str(rank)}))
        for rank in range(num_processes)
    ]


def _wait(processes: list[_Process], folder: Path) -> dict[int, int]:
    """Until all have ended well, or one has not: then the others are ended.

    Returns:
        Exit status of each rank that failed by itself.
    """
    lost: dict[int, int] = {}
    try:
        deadline = math.inf
        while any(process.handle.poll() is None for process in processes) and time.monotonic() < deadline:
            if any(_has_failed(process, folder) for process in processes):
                break
            if deadline == math.inf and any(process.handle.poll() in _ASKED for process in processes):
                deadline = time.monotonic() + TERMINATION_SECONDS
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:  # for the second time
        _end(processes, grace=0.0)
        raise
    finally:
        lost = {one.rank: one.handle.returncode for one in processes if _has_failed(one, folder)}
        _end(processes)
    return lost


def _has_failed(process: _Process, folder: Path) -> bool:
    """Whether it has ended, but neither as it was asked to nor with a result (``os._exit(0)`` leaves none)."""
    code = process.handle.poll()
    return code not in (None, 0, *_ASKED) or (code == 0 and not result_path(folder, process.rank).is_file())


def _end(processes: list[_Process], *, grace: float | None = None) -> None:
    """End what still runs: a process that waits for a dead one can not end by itself."""
    running = [process for process in processes if process.handle.poll() is None]
    if not running:
        return
    deadline = time.monotonic() + (
        GRACE_SECONDS if grace is None else grace
    )  # the error of the first to fail may reach the others by itself
    while time.monotonic() < deadline and any(process.handle.poll() is None for process in running):
        time.sleep(POLL_SECONDS)
    for process in running:
        process.handle.kill()
    for process in running:
        process.handle.wait()


def _raise_first_error(processes: list[_Process], folder: Path, lost: dict[int, int], received: list[int]) -> None:
    """Raise what ended the group: a process that was lost without a word, or the first that could say what it met.

    A lost one comes first, because the others then fail at not reaching it; but abort() is how a library ends a process
    that can not reach another.
    """
    errors = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob(f"*{ERROR_SUFFIX}")]
    silent = {
        rank: code
        for rank, code in lost.items()
        if code != -signal.SIGABRT and rank not in {error["rank"] for error in errors}
    }
    if errors and not silent:
        first = min(errors, key=lambda error: error["time"])
        if first["is_user_fault"]:
            raise MGIEError(first["message"])
        sys.stderr.write(first["traceback"])
        raise ProcessError(f"process {first['rank']} of {len(processes)} failed: {first['message']}")
    if any(process.handle.returncode in _ASKED for process in processes):
        raise KeyboardInterrupt if received[:1] == [signal.SIGINT] else SystemExit(TERMINATED)
    if lost:
        rank, code = next(iter((silent or lost).items()))
        cause = f"by signal {-code}" if code < 0 else f"with exit status {code}"
        raise ProcessKilledError(
            f"process {rank} of {len(processes)} ended {cause} without a word; the system's log may say more (out of "
            "memory?), and resume=<run dir> goes on from the last checkpoint"
        )


@contextlib.contextmanager
def _forwarded_signals(processes: list[_Process]) -> Iterator[list[int]]:
    """Let the processes decide together when to end, as they do in one process; a second Ctrl-C does not wait for it.

    Yields:
        The signals that came.
    """
    received: list[int] = []
    first = math.inf  # when the first came
    if threading.current_thread() is not threading.main_thread():
        yield received
        return

    def pass_on(signum: int, frame: object = None) -> None:
        for process in processes:
            if process.handle.poll() is None:
                process.handle.send_signal(signum)

    def forward(signum: int, frame: object) -> None:
        nonlocal first
        if signum == signal.SIGINT and time.monotonic() - first > IMPATIENCE_SECONDS:
            raise KeyboardInterrupt
        first = min(first, time.monotonic())
        received.append(signum)
        pass_on(signal.SIGTERM)

    before = {signum: signal.signal(signum, forward) for signum in (signal.SIGTERM, signal.SIGINT)}
    if "SLURM_JOB_ID" in os.environ:
        before[signal.SIGUSR1] = signal.signal(signal.SIGUSR1, pass_on)  # for callbacks.requeue
    try:
        yield received
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
