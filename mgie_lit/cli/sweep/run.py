"""A sweep from what was typed to its table and exit status."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.cli.launch import IMPATIENCE_SECONDS
from mgie_lit.cli.sweep.record import DIRECTORY_KEY, RESUME_KEY, key_of
from mgie_lit.cli.sweep.sweep import Sweep, SweepRequest
from mgie_lit.cli.sweep.table import print_table
from mgie_lit.cli.sweep.task import STOP_FILE, stop, title
from mgie_lit.config.lock import locked
from mgie_lit.config.resolvers import reserve_directory
from mgie_lit.errors import ConfigError, MGIEError
from mgie_lit.trials import FINISHED, SWEEP_FILE

if TYPE_CHECKING:
    from collections.abc import Iterator

SOME_FAILED = 1  # exit status, unless the user can repair all of it


def run_sweep(request: SweepRequest) -> None:
    """Run all trials, each in a directory of its own; print their table and the sweep's directory.

    Args:
        request: What was asked for.

    Raises:
        ConfigError: Nothing can run: the message has the faults.
        MGIEError: Trials failed for reasons that the user can repair.
        SystemExit: Trials failed otherwise, or the sweep was asked to end.
    """
    if any(key_of(text) == "paths.run_dir" for text in request.record.overrides):
        raise ConfigError(
            "paths.run_dir: every trial of a sweep has its own directory, got one for all; "
            "set the sweep's directory with hydra.sweep.dir=<dir>"
        )
    is_new, sweep_dir = _claim_directory(request)
    try:
        with locked(sweep_dir, option=RESUME_KEY if request.resumed else DIRECTORY_KEY):
            sweep = Sweep(request, sweep_dir)
            signum = _run_until_stopped(sweep)
    finally:
        if is_new and not any(sweep_dir.iterdir()):
            sweep_dir.rmdir()  # nothing could run
    print_table(sweep_dir)
    print(sweep_dir, flush=True)
    _raise_outcome(sweep, signum)


def _claim_directory(request: SweepRequest) -> tuple[bool, Path]:
    """Whether the sweep's directory was made, and which it is."""
    if request.resumed is not None:
        return False, request.resumed.absolute()
    is_new = reserve_directory(Path(str(request.first.hydra.sweep.dir)))
    sweep_dir = Path(str(request.first.hydra.sweep.dir))  # the reserved name, where the first was taken
    if (sweep_dir / SWEEP_FILE).exists():
        raise ConfigError(
            f"{DIRECTORY_KEY}: expected a directory without a sweep, but {sweep_dir} holds one; continue it with "
            f"{RESUME_KEY}={sweep_dir}, or choose another"
        )
    return is_new, sweep_dir.absolute()


def _run_until_stopped(sweep: Sweep) -> int | None:
    """Run a sweep; the signal that ended it, or None."""
    stop_file = sweep.directory / STOP_FILE
    stop_file.unlink(missing_ok=True)
    try:
        with _stops_on_signals(sweep):
            sweep.run()
        return int(stop_file.read_text(encoding="utf-8")) if stop_file.exists() else None
    finally:
        stop_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _stops_on_signals(sweep: Sweep) -> Iterator[None]:
    """On SIGTERM or Ctrl-C let no trial begin, and tell those that other processes look after to end.

    A trial of this process has taken the signal over while it runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = 0.0

    def handle(signum: int, frame: object) -> None:
        nonlocal first
        if signum == signal.SIGINT and first and time.monotonic() - first > IMPATIENCE_SECONDS:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        stop(sweep.directory, signum)
        for record in sweep.records():
            if record.is_alive and record.pid != os.getpid():
                os.kill(record.pid, signal.SIGTERM)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _raise_outcome(sweep: Sweep, signum: int | None) -> None:
    """End as the sweep did: well, with what the user can repair, or with an exit status alone."""
    records = sweep.records()
    if signum is not None:
        sys.stderr.write(f"the sweep was asked to end; go on with {RESUME_KEY}={sweep.directory}\n")
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signum)
    if sweep.failure is not None:
        raise sweep.failure
    bad = [record for record in records if record.state != FINISHED]
    if not bad:
        return
    head = f"{len(bad)} of {len(records)} trials of the sweep failed:"
    if all(record.is_user_fault for record in bad):
        raise MGIEError("\n".join([head, *dict.fromkeys(str(record.error) for record in bad)]))
    lines = [f"{title(record, sweep.trials.shared)} {record.state}: {record.error or ''}" for record in bad]
    sys.stderr.write("\n  ".join([f"mgie {sweep.request.record.command}: error: {head}", *lines]) + "\n")
    raise SystemExit(SOME_FAILED)
