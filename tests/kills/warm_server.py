"""Runs `mgie` commands in forks of itself, so that each is a process of its own without seconds of imports.

Reads a request a line and answers each with a line, both JSON:

    {"argv": [...], "log": FILE, "stop": {"rank": 0, "kind": "file", "at": 3} | null}  ->  {"pid"}
    {"wait": PID}                                            ->  {"status", "cpu_s", "events"} or {"status": null}

A fork is a session of its own; its ranks and loaders are found by that. With ``stop`` the process of that rank kills
itself by SIGKILL at an event: the n-th ``file`` that is opened, renamed or removed in the run's directory, the n-th
``chunk`` written to a checkpoint, the n-th ``row`` of the table, half of it written, the n-th ``batch`` of training,
the n-th beginning or end of a ``validation``. ``"by": "error"`` raises instead, ``"by": "exit"`` leaves with status 0.
"""

from __future__ import annotations

import functools
import json
import os
import signal
import sys
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.loops.evaluation_loop import _EvaluationLoop
from lightning_utilities.core.rank_zero import rank_zero_only

from mgie_lit.checkpoints.integrity import _HashingFile
from mgie_lit.cli import launch, rank
from mgie_lit.cli.main import main
from mgie_lit.training.csv_logger import CSVLogger
from mgie_lit.training.module import EditModule

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.truncate", "os.mkdir"}


class Forked:
    """A fork that looks like a ``subprocess.Popen``."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.returncode: int | None = None
        self.cpu_s = 0.0
        self.pid = os.fork()
        if self.pid == 0:
            _run(work)

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def send_signal(self, signum: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, signum)

    def _wait(self, flags: int) -> int | None:
        if self.returncode is None:
            pid, status, usage = os.wait4(self.pid, flags)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
                self.cpu_s = usage.ru_utime + usage.ru_stime  # its own, and of children that it has waited for
        return self.returncode


def _run(work: Callable[[], None]) -> None:
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class Stop:
    """Counts the events of this process, and kills it at one of them."""

    def __init__(self, spec: dict[str, Any] | None, folder: str, counts: Path) -> None:
        self.spec = spec or {}
        self.folder = folder
        self.counts = counts
        self.seen: Counter[str] = Counter()
        self.rank = 0
        self.is_busy = False

    def count(self, kind: str, before_end: Callable[[], None] | None = None) -> None:
        if self.is_busy:
            return
        self.seen[kind] += 1
        if (self.spec.get("rank"), self.spec.get("kind"), self.spec.get("at")) == (self.rank, kind, self.seen[kind]):
            self.is_busy = True
            if before_end is not None:
                before_end()
            self._end(self.spec.get("by", "kill"))

    def _end(self, how: str) -> None:
        if how == "error":
            raise RuntimeError("made to fail here")
        if how == "exit":
            os._exit(0)
        os.kill(os.getpid(), signal.SIGKILL)

    def write(self) -> None:
        self.is_busy = True
        if self.rank == 0:
            self.counts.write_text(json.dumps(self.seen))

    def watch(self) -> None:
        """Put itself into everything that it counts."""
        sys.addaudithook(self._on_audit)
        _before(_HashingFile, "write", lambda *_: self.count("chunk"))
        _before(EditModule, "training_step", lambda *_: self.count("batch"))
        _before(_EvaluationLoop, "on_run_start", lambda *_: self.count("validation"))
        _before(_EvaluationLoop, "on_run_end", lambda *_: self.count("validation"))
        _before(CSVLogger, "_append", lambda logger, row: self.count("row", lambda: _write_half(logger, row)))

    def _on_audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in FILE_EVENTS and arguments and self.folder in str(arguments[0]):
            self.count("file")


def _before(owner: type, name: str, action: Callable[..., None]) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        action(*args)
        return method(*args, **kwargs)

    setattr(owner, name, wrapped)


def _write_half(logger: CSVLogger, row: dict[str, str]) -> None:
    line = ",".join(row.get(column, "") for column in logger.columns)
    with logger.path.open("a", newline="") as file:
        file.write(line[: len(line) // 2])


def command(argv: list[str], log: str, stop: Stop) -> None:
    """A whole `mgie` process; ranks that it starts are forks, too."""
    os.setsid()
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    stop.watch()
    if any(text.startswith("trainer.devices=2") for text in argv):
        stop.rank = -1  # the one that starts the ranks

    def start(folder: Path, num_processes: int) -> list[launch._Process]:
        port, parent = launch._free_port(), os.getpid()
        shared = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "NODE_RANK": "0"}

        def work(number: int) -> None:
            stop.rank = rank_zero_only.rank = number
            os.environ.update(shared | {"WORLD_SIZE": str(num_processes), "RANK": str(number)})
            os.environ["LOCAL_RANK"] = str(number)
            sys.argv = ["rank", str(folder), str(parent)]
            rank.main()
            stop.write()

        return [launch._Process(number, Forked(functools.partial(work, number))) for number in range(num_processes)]

    launch._start = start  # type: ignore[assignment]
    main(argv)
    stop.write()


def serve() -> None:
    """Until the input ends."""
    torch.set_num_threads(1)
    running: dict[int, tuple[Forked, Path]] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "argv" in request:
            counts = Path(request["log"] + ".counts")
            folder = next(
                (text.partition("=")[2] for text in request["argv"] if text.startswith(("paths.run_dir=", "resume="))),
                "\0",
            )
            stop = Stop(request["stop"], folder, counts)
            process = Forked(functools.partial(command, request["argv"], request["log"], stop))
            running[process.pid] = (process, counts)
            answer: dict[str, Any] = {"pid": process.pid}
        else:
            process, counts = running[request["wait"]]
            answer = {"status": process.poll(), "cpu_s": process.cpu_s, "events": {}}
            if process.returncode is not None and counts.is_file():
                answer["events"] = json.loads(counts.read_text())
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    serve()
