"""Which process of a group is said to have failed, with programs that stand for the ranks."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mgie_lit.cli import launch
from mgie_lit.cli.launch import ProcessError, ProcessKilledError, _Process, _raise_first_error, _wait
from mgie_lit.errors import MGIEError

pytestmark = pytest.mark.faults

DONE = "open(f'{folder}/rank-{rank}.result.json', 'w').write('null')"
FAILS = """
import json
record = {"rank": rank, "time": time.time(), "is_user_fault": fault, "message": "broken", "traceback": "Traceback ..."}
open(f"{folder}/rank-{rank}.error.json", "w").write(json.dumps(record)); os._exit(1)
"""
WAITS = "time.sleep(60)"
DIES = "os.kill(os.getpid(), 9)"


def start(folder: Path, *programs: str) -> list[_Process]:
    head = "import os, time; folder, rank, fault = {!r}, {}, {}\n"
    return [
        _Process(
            rank,
            subprocess.Popen([sys.executable, "-c", head.format(str(folder), rank, text.startswith("# user")) + text]),
        )
        for rank, text in enumerate(programs)
    ]


def wait(processes: list[_Process], folder: Path) -> None:
    _raise_first_error(processes, folder, _wait(processes, folder), [])


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "GRACE_SECONDS", 0.5)
    monkeypatch.setattr(launch, "TERMINATION_SECONDS", 0.5)


def test_all_ended_well(tmp_path: Path) -> None:
    wait(start(tmp_path, DONE, DONE), tmp_path)


@pytest.mark.parametrize(
    ("programs", "error", "message"),
    [
        ((WAITS, DIES), ProcessKilledError, "process 1 of 2 ended by signal 9 without a word"),
        ((DIES, WAITS), ProcessKilledError, "process 0 of 2 ended by signal 9"),
        ((WAITS, "os._exit(0)"), ProcessKilledError, "process 1 of 2 ended with exit status 0 without a word"),
        ((WAITS, "os._exit(3)"), ProcessKilledError, "process 1 of 2 ended with exit status 3"),
        ((WAITS, FAILS), ProcessError, "process 1 of 2 failed: broken"),
        ((WAITS, f"# user\n{FAILS}"), MGIEError, "^broken$"),
        # the other one fails at not reaching the dead one, or is aborted by a library: neither is the cause
        ((f"time.sleep(0.2)\n{FAILS}", DIES), ProcessKilledError, "process 1 of 2 ended by signal 9"),
        (
            (f"time.sleep(0.3)\n{FAILS}", "os.abort()"),
            (ProcessError, ProcessKilledError),
            "ended by signal 6|process 0 of 2 failed",
        ),
        ((FAILS, "time.sleep(0.05); os.abort()"), ProcessError, "process 0 of 2 failed: broken"),
    ],
)
def test_the_first_cause_is_raised_and_all_are_ended(
    programs: tuple[str, ...], error: type[Exception] | tuple[type[Exception], ...], message: str, tmp_path: Path
) -> None:
    processes = start(tmp_path, *programs)
    with pytest.raises(error, match=message):
        wait(processes, tmp_path)
    assert all(process.handle.poll() is not None for process in processes)


def test_asked_to_end(tmp_path: Path) -> None:
    """One before it listened, the other one after; a third one that does not hear is ended."""
    processes = start(tmp_path, "os.kill(os.getpid(), 15)", "time.sleep(0.2); os._exit(143)", WAITS)
    with pytest.raises(SystemExit, match="143"):
        wait(processes, tmp_path)
    assert all(process.handle.poll() is not None for process in processes)


@pytest.fixture
def _hears_interrupts() -> Iterator[None]:
    """Also where a shell started the tests in its background, which ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_hears_interrupts")
def test_interrupted(tmp_path: Path) -> None:
    processes = start(tmp_path, WAITS, WAITS)
    threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
    since = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        wait(processes, tmp_path)
    assert time.monotonic() - since < 10
    assert all(process.handle.poll() is not None for process in processes)
