"""One process of a training in several: ``python -m mgie_lit.cli.rank FOLDER PARENT``, started by ``launch``."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
import traceback
from pathlib import Path

ERROR_SUFFIX = ".error.json"
TERMINATED = 128 + signal.SIGTERM
PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main() -> None:
    """Run this process's share of the training that ``launch`` wrote into the folder."""
    folder, parent, rank = Path(sys.argv[1]), int(sys.argv[2]), int(os.environ["RANK"])
    _end_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all of a terminal: the one that started this one acts
    if rank:
        sys.stdout = sys.stderr = Path(os.devnull).open("w")  # noqa: SIM115 - one voice; errors go through files
    from mgie_lit.cli.messages import user_message
    from mgie_lit.config.run import Training

    try:
        value = Training.read(folder).run()
    except Exception as error:
        message = user_message(error)
        record = {
            "rank": rank,
            "time": time.time(),
            "is_user_fault": message is not None,
            "message": message or f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
        _write(folder / f"rank-{rank}{ERROR_SUFFIX}", record)
        os._exit(1)  # no waiting for processes that wait for this one
    _write(result_path(folder, rank), value)


def result_path(folder: Path, rank: int) -> Path:
    """File of a process that has come to its end, with what its training gave."""
    return folder / f"rank-{rank}.result.json"


def _write(path: Path, content: object) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(content), encoding="utf-8")
    temporary.replace(path)


def _end_with(parent: int) -> None:
    """Let the system end this process when the one that started it dies, however it dies."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it died before that
        raise SystemExit(1)


if __name__ == "__main__":
    main()
