"""Trainings in processes of their own that are killed and resumed."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from mgie_lit.training.callbacks.throughput import TIMINGS

SERVER = Path(__file__).with_name("warm_server.py")
LIMIT_SECONDS = 200.0  # wall clock; a training here takes one to five seconds of CPU
ORPHAN_SECONDS = 30.0


@dataclass
class Ended:
    """A command that has come to its end."""

    status: int
    cpu_s: float  # of all of its processes that were waited for
    events: dict[str, int]  # what rank 0 counted; empty where it was killed
    log: str
    seconds: float = 0.0  # wall clock from the kill until its last process was gone


@dataclass
class Command:
    """A running `mgie`."""

    server: Server
    pid: int
    log: Path
    killed: float | None = None

    def processes(self) -> list[int]:
        """Everything that it has started and that still runs: they share its session."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = path.read_text().rpartition(")")[2].split()
            except OSError:  # it has ended meanwhile
                continue
            if int(fields[3]) == self.pid and fields[0] != "Z":
                found.append(int(path.parent.name))
        return found

    def cpu_seconds(self) -> float:
        """Of its processes that run."""
        total = 0
        for pid in self.processes():
            try:
                fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            total += int(fields[11]) + int(fields[12])
        return total / os.sysconf("SC_CLK_TCK")

    def kill(self, pid: int | None = None, signum: int = signal.SIGKILL) -> None:
        """Send a signal to one of its processes, by default to the first."""
        self.killed = time.monotonic()
        os.kill(self.pid if pid is None else pid, signum)

    def poll(self) -> Any:  # noqa: ANN401
        """Status, None while it runs."""
        return self.server.ask({"wait": self.pid})["status"]

    def wait(self) -> Ended:
        """Until it has ended and nothing of it is left."""
        deadline = time.monotonic() + LIMIT_SECONDS
        while (answer := self.server.ask({"wait": self.pid}))["status"] is None:
            assert time.monotonic() < deadline, f"no end within {LIMIT_SECONDS} s:\n{self.log.read_text()}"
            time.sleep(0.03)
        since = self.killed or time.monotonic()
        while self.processes():
            assert time.monotonic() < since + ORPHAN_SECONDS, f"processes were left: {self.processes()}"
            time.sleep(0.03)
        self.server.cpu_s += answer["cpu_s"]
        seconds = time.monotonic() - since
        return Ended(answer["status"], answer["cpu_s"], answer["events"], self.log.read_text(), seconds)


@dataclass
class Server:
    """Starts commands."""

    process: subprocess.Popen[str]
    folder: Path
    cpu_s: float = 0.0
    commands: list[Command] = field(default_factory=list)

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def start(self, *argv: str | Path, stop: dict[str, Any] | None = None) -> Command:
        """Start ``mgie *argv``; with ``stop`` it kills itself somewhere (``warm_server``)."""
        log = self.folder / f"{len(self.commands)}.log"
        log.touch()
        answer = self.ask({"argv": [str(text) for text in argv], "log": str(log), "stop": stop})
        self.commands.append(Command(self, answer["pid"], log))
        return self.commands[-1]

    def run(self, *argv: str | Path, status: int = 0, stop: dict[str, Any] | None = None) -> Ended:
        """A whole command."""
        ended = self.start(*argv, stop=stop).wait()
        assert ended.status == status, ended.log
        return ended


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Warm: everything that a training imports has been imported."""
    folder = tmp_path_factory.mktemp("warm")
    process = subprocess.Popen(
        [sys.executable, str(SERVER)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    warm = Server(process, folder)
    try:
        yield warm
    finally:
        for command in warm.commands:
            for pid in command.processes():
                os.kill(pid, signal.SIGKILL)
        assert process.stdin is not None
        process.stdin.close()
        process.wait()


def read_rows(run_dir: Path) -> list[dict[str, str]]:
    """The table without timings."""
    with (run_dir / "metrics.csv").open(newline="") as file:
        return [{key: value for key, value in row.items() if key not in TIMINGS} for row in csv.DictReader(file)]


def differences(first: Any, second: Any, path: str = "") -> list[str]:  # noqa: ANN401
    """Where two nests of containers and tensors are not equal to the last bit."""
    if type(first) is not type(second):
        return [path]
    if isinstance(first, dict):
        if first.keys() != second.keys():
            return [f"{path}: {sorted(first.keys() ^ second.keys())}"]
        return [fault for key in first for fault in differences(first[key], second[key], f"{path}/{key}")]
    if isinstance(first, list | tuple):
        if len(first) != len(second):
            return [path]
        return [
            fault
            for index in range(len(first))
            for fault in differences(first[index], second[index], f"{path}/{index}")
        ]
    equal = torch.equal(first, second) if isinstance(first, torch.Tensor) else first == second
    return [] if equal else [path]


def load(path: Path) -> dict[str, Any]:
    """What two trainings should have in common of a checkpoint: all but timings, paths and progress bars' counts."""
    content: dict[str, Any] = torch.load(path, weights_only=True)
    for key in ("callbacks", "loops", "mgie_config"):
        content.pop(key)
    for values in (content["mgie_owed"]["row"] or {}, content["mgie_owed"]["known"]):
        for name in TIMINGS:
            values.pop(name, None)
    return content


def assert_same_run(straight: Path, resumed: Path) -> None:
    """Every checkpoint, the table and the pictures, and nothing beside them."""
    names = [sorted(str(path.relative_to(folder)) for path in folder.rglob("*")) for folder in (straight, resumed)]
    assert [name for name in names[1] if name != "resumes.jsonl"] == names[0]
    checkpoints = sorted((straight / "checkpoints").glob("*.ckpt"))
    assert checkpoints, "nothing was compared"
    for path in checkpoints:
        assert differences(load(path), load(resumed / "checkpoints" / path.name)) == [], path.name
    assert read_rows(resumed) == read_rows(straight)
    for path in straight.glob("images/*"):
        assert path.read_bytes() == (resumed / "images" / path.name).read_bytes(), path.name


@pytest.fixture(name="assert_same_run")
def _assert_same_run() -> Callable[[Path, Path], None]:
    return assert_same_run


@pytest.fixture(name="read_rows")
def _read_rows() -> Callable[[Path], list[dict[str, str]]]:
    return read_rows
