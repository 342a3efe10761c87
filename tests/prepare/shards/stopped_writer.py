"""A program of `test_stopped.py`: writes a folder of pairs as shards in forks of itself, each stopped at an event.

    python stopped_writer.py PAIRS MAX_BYTES

Reads a request a line, answers ``{"status", "events", "error"}``: negative status = the signal that killed the fork.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.prepare.shards.writing import write_shards

FILE_EVENTS = {"open", "os.rename", "os.remove", "os.mkdir"}


def main(pairs: Path, max_bytes: int) -> None:
    """Serve until the input ends."""
    with tempfile.TemporaryDirectory() as folder:
        write(pairs, Path(folder) / "warm-up", max_bytes)  # what is imported on demand is imported once
    for line in sys.stdin:
        answer = in_a_fork(pairs, max_bytes, **json.loads(line))
        print(json.dumps(answer), flush=True)


def write(pairs: Path, folder: Path, max_bytes: int) -> None:
    """As the command does."""
    datasets = {split: ImageFolder(split, root=pairs) for split in ("train", "val")}
    write_shards(folder, datasets, {}, max_bytes=max_bytes)


def in_a_fork(pairs: Path, max_bytes: int, folder: str, **stop: Any) -> dict[str, Any]:  # noqa: ANN401
    """Write in a process that has imported everything already."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        report: dict[str, Any] = {"error": ""}
        count = stop_at(Path(folder), **stop)
        try:
            write(pairs, Path(folder), max_bytes)
        except BaseException as error:
            report["error"] = f"{type(error).__name__}: {error}"
        finally:
            sys.setprofile(None)
            os.write(writer, json.dumps(report | {"events": count()}).encode())
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        said = pipe.read()
    _, status = os.waitpid(child, 0)
    return {"events": 0, "error": "", **json.loads(said or "{}"), "status": os.waitstatus_to_exitcode(status)}


def stop_at(
    folder: Path, call: int | None = None, touch: int | None = None, file_bytes: int | None = None
) -> Callable[[], int]:
    """Arm the end of this process.

    Args:
        folder: Of the shards.
        call: Kill it at this call of a function, Python's or C's; 0 = count them only.
        touch: Kill it before this opening, renaming or removing of something in the folder; 0 = count them only.
        file_bytes: No file may grow longer, as on a full disk.

    Returns:
        Number of events so far.
    """
    count = 0
    last = call or touch

    def tick(*_: Any) -> None:  # noqa: ANN401
        nonlocal count
        count += 1
        if count == last:
            os.kill(os.getpid(), signal.SIGKILL)

    def watch(name: str, arguments: tuple[Any, ...]) -> None:
        if name in FILE_EVENTS and str(arguments[0]).startswith(str(folder)):
            tick()

    if call is not None:
        sys.setprofile(tick)
    if touch is not None:
        sys.addaudithook(watch)
    if file_bytes is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes, file_bytes))
    return lambda: count


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
