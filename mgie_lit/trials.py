"""What a sweep leaves in its directories: ``sweep.yaml`` in its own, ``trial.json`` in that of each trial."""

from __future__ import annotations

import json
import math
import os
import socket
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from mgie_lit.errors import DataError

SWEEP_FILE, TRIAL_FILE = "sweep.yaml", "trial.json"
RUNNING, FINISHED, FAILED, KILLED, STOPPED = "running", "finished", "failed", "killed", "stopped"
STATES = (RUNNING, FINISHED, FAILED, KILLED, STOPPED)


@dataclass(frozen=True)
class TrialRecord:
    """One trial of a sweep, as its directory records it.

    Attributes:
        number: Counted from 0 in the order of the sweep.
        overrides: What it was given, its own and those of all trials.
        state: ``running``, ``finished``, ``failed`` (it ended with an error), ``killed`` (it ended without a word) or
            ``stopped`` (it was asked to end, and can go on).
        metric: What the sweep optimizes; None where it optimizes nothing.
        value: Of ``metric`` at the end, finite; None where there is none.
        error: Why it failed, or why a finished one has no value.
        is_user_fault: Whether the error is one that the user can repair.
        attempts: How often it was begun.
        devices: Ids of the GPUs that it had to itself; empty where none were dealt out.
        began: When the last attempt began, ISO 8601 in UTC.
        ended: When it ended; None while it runs.
        host: Machine of the process that looks after it.
        pid: Id of that process.
        process_start: When that process started, in ticks after the machine did; tells it from a later one of the same
            id.
    """

    number: int
    overrides: tuple[str, ...]
    state: str = RUNNING
    metric: str | None = None
    value: float | None = None
    error: str | None = None
    is_user_fault: bool = False
    attempts: int = 1
    devices: tuple[str, ...] = ()
    began: str = ""
    ended: str | None = None
    host: str = ""
    pid: int = 0
    process_start: int | None = None

    @classmethod
    def begin(cls, number: int, overrides: tuple[str, ...], *, metric: str | None, attempts: int) -> Self:
        """A trial that this process looks after from now on."""
        pid = os.getpid()
        return cls(
            number,
            overrides,
            metric=metric,
            attempts=attempts,
            began=_now(),
            host=socket.gethostname(),
            pid=pid,
            process_start=_process_start(pid),
        )

    def with_devices(self, devices: tuple[str, ...]) -> Self:
        """The same trial, which has got its devices."""
        return replace(self, devices=devices)

    def finished(self, value: float | None) -> Self:
        """The same trial, come to its end with a value; one that is missing or not finite is none, and says so."""
        if value is not None and math.isfinite(value):
            return self.end(FINISHED, value=value)
        if self.metric is None:
            return self.end(FINISHED)
        what = "was never logged" if value is None else f"is {value} at the end"
        return self.end(FINISHED, error=f"optimized_metric: {self.metric} {what}, so that this trial has no value")

    def end(self, state: str, **changes: Any) -> Self:  # noqa: ANN401 - of any field
        """The same trial in another state, now."""
        return replace(self, state=state, ended=_now(), **changes)

    @property
    def is_over(self) -> bool:
        """Whether it has come to an end from which it does not go on by itself."""
        return self.state in (FINISHED, FAILED, KILLED)

    @property
    def is_alive(self) -> bool:
        """Whether it runs: its process is there; of a process of another machine that can not be seen."""
        is_here = self.state == RUNNING and self.host == socket.gethostname()
        return is_here and _exists(self.pid) and _process_start(self.pid) == self.process_start

    def write(self, directory: Path) -> None:
        """Record it in its directory, which is made where it is missing; the file is replaced at once."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / TRIAL_FILE
        temporary = path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(asdict(self), indent=2, ensure_ascii=False, allow_nan=False) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)

    @classmethod
    def read(cls, directory: Path) -> Self | None:
        """What a directory records.

        Args:
            directory: Of a trial.

        Returns:
            The trial; None where none is recorded.

        Raises:
            DataError: The file can not be read.
        """
        path = directory / TRIAL_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            trial = cls(**content | {key: tuple(content[key]) for key in ("overrides", "devices")})
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise DataError(f"{path}: expected the record of a trial, can not read it: {error}; remove it") from error
        if trial.state not in STATES:
            raise DataError(f"{path}: state: expected one of {', '.join(STATES)}, got {trial.state}; remove the file")
        return trial


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _process_start(pid: int) -> int | None:
    """Field ``starttime`` of proc(5); None where the system does not tell."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(text.rpartition(")")[2].split()[19])  # the name before it may hold anything
