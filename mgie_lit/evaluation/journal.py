"""What an evaluation has done so far: a line a scored edit, so that it can go on after a kill."""

from __future__ import annotations

import contextlib
import json
import shutil
from typing import TYPE_CHECKING, Any, Self

from filelock import FileLock, Timeout

from mgie_lit.errors import ConfigError
from mgie_lit.evaluation.files import write_whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path
    from types import TracebackType
    from typing import IO

PROGRESS_DIR = "progress"
ATTRIBUTES = "_attributes"  # of a row: which of its columns are attributes of the example
_PLAN_FILE = "plan.json"

Row = dict[str, Any]
Done = dict[tuple[str, int], Row]  # sample id and seed -> row of the table


class Journal:
    """The rows that one process writes while an evaluation runs; a context manager.

    Args:
        out_dir: Of the evaluation.
        rank: Of the process, from 0; each has a file of its own.
    """

    def __init__(self, out_dir: Path, rank: int = 0) -> None:
        self.path = out_dir / PROGRESS_DIR / f"rank-{rank}.jsonl"
        self._lock = _lock(self.path)
        self._file: IO[str] | None = None

    def __enter__(self) -> Self:
        """Open the file and keep other processes out of it.

        Returns:
            Itself.

        Raises:
            ConfigError: Another process is writing it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _acquire(self._lock, self.path)
        cut = self.path.exists() and not self.path.read_bytes().endswith(b"\n")  # a kill in the middle of a line
        self._file = self.path.open("a", encoding="utf-8")
        if cut:
            self._file.write("\n")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()
        self._lock.release()

    def add(self, row: Mapping[str, object]) -> None:
        """Record a row; what it names (its image) is written already."""
        assert self._file is not None
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")
        self._file.flush()


def read_journal(out_dir: Path) -> Done:
    """Rows of all processes so far; lines that a kill has cut are passed over."""
    done: Done = {}
    for path in sorted((out_dir / PROGRESS_DIR).glob("rank-*.jsonl")):
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            with contextlib.suppress(ValueError):
                row = json.loads(line)
                done[row["sample_id"], row["seed"]] = row
    return done


def claim(out_dir: Path, plan: Mapping[str, object], *, resume: bool) -> None:
    """Record what an evaluation is, or make sure that one that goes on is still the same.

    Args:
        out_dir: Of the evaluation; made if it is not there.
        plan: What its numbers depend on, as plain values.
        resume: Go on where progress has been made.

    Raises:
        ConfigError: There is progress although ``resume`` is off, or it was made under another plan.
    """
    path = out_dir / PROGRESS_DIR / _PLAN_FILE
    text = json.dumps(plan, indent=2, ensure_ascii=False, default=str)
    if path.exists():
        if not resume:
            raise ConfigError(
                f"paths.run_dir: expected a folder without an evaluation, got {out_dir}, which holds one that was "
                f"interrupted; name another folder, or go on with resume={out_dir}"
            )
        before = json.loads(path.read_text(encoding="utf-8"))
        changed = list(_differences(before, json.loads(text)))
        if changed:
            raise ConfigError(
                f"resume: expected the evaluation as it was begun in {out_dir}, but {', '.join(changed[:5])} changed; "
                "undo the change, or start a new evaluation"
            )
        for rows in path.parent.glob("rank-*.jsonl"):
            with _acquire(_lock(rows), rows):
                pass  # no process of the interrupted evaluation is left
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda draft: draft.write_text(text + "\n", encoding="utf-8"))


def forget(out_dir: Path) -> None:
    """Remove the progress of an evaluation that is complete."""
    shutil.rmtree(out_dir / PROGRESS_DIR, ignore_errors=True)


def _lock(path: Path) -> FileLock:
    return FileLock(path.with_suffix(".lock"))


def _acquire(lock: FileLock, path: Path) -> contextlib.AbstractContextManager[object]:
    try:
        return lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(
            f"resume: expected an evaluation that has ended, but another process works on {path.parent.parent}; "
            "wait for it, or stop it"
        ) from error


def _differences(before: object, now: object, path: str = "") -> Iterator[str]:
    """Dotted names of values that are not equal."""
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            yield from _differences(before.get(key), now.get(key), f"{path}.{key}" if path else str(key))
    elif before != now:
        yield path
