"""One process at a time works on a run directory."""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mgie_lit.config.lock import LOCK_FILE, locked
from mgie_lit.errors import ConfigError

HOLDER = """
import sys, time
from pathlib import Path
from mgie_lit.config.lock import locked
with locked(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""
pytestmark = pytest.mark.faults


@contextmanager
def holder(run_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that holds the lock until its stdin is closed."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(run_dir)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def test_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    run_dir = tmp_path / "run"
    with holder(run_dir) as process:
        expected = rf"resume: expected a run directory that no process works on, but process {process.pid} on .* works"
        with pytest.raises(ConfigError, match=expected), locked(run_dir, option="resume"):
            pass
        assert (run_dir / LOCK_FILE).exists(), "the refused one leaves the other's lock"
        process.communicate(timeout=10)
        with locked(run_dir):
            pass
    assert list(run_dir.iterdir()) == [], "nothing is left of a lock"


def test_lock_dies_with_its_process(tmp_path: Path) -> None:
    with holder(tmp_path) as process:
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        assert (tmp_path / LOCK_FILE).exists()
        with locked(tmp_path):
            pass


def test_forked_child_that_lives_on_does_not_hold_it(tmp_path: Path) -> None:
    """A loader's worker may live for seconds after its trainer was killed."""
    context = multiprocessing.get_context("fork")
    with locked(tmp_path):
        child = context.Process(target=time.sleep, args=(60,))
        child.start()
    try:
        with holder(tmp_path):  # another process gets it
            pass
    finally:
        child.kill()
        child.join()


def test_one_process_does_not_take_it_twice(tmp_path: Path) -> None:
    with locked(tmp_path):
        with pytest.raises(ConfigError, match=rf"this process \({os.getpid()}\) works on"), locked(tmp_path / "."):
            pass
        code = "import sys; from pathlib import Path; from mgie_lit.config.lock import locked\n"
        code += "with locked(Path(sys.argv[1])): pass"
        other = subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False, capture_output=True, text=True)
        assert "ConfigError" in other.stderr, "the refused try has not let the lock go"


def test_file_system_without_locks_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(descriptor: int, flags: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "lockf", refuse)
    with caplog.at_level(logging.WARNING), locked(tmp_path):
        pass
    assert "knows no locks (No locks available)" in caplog.text
