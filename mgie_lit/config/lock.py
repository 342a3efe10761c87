"""One process at a time works on a run directory."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger(__name__)
LOCK_FILE = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}  # of file systems that know none
_held: set[Path] = set()  # by this process, which its own record locks do not stop


@contextlib.contextmanager
def locked(run_dir: Path, *, option: str = "paths.run_dir") -> Iterator[None]:
    """Keep other processes out of a run directory for as long as this one works on it.

    The lock is a POSIX record lock: the system lets it go when this process ends, however it ends, and a child that
    was forked from it does not hold it. Over NFS it also keeps out other machines, if the server hands out locks; where
    a file system knows no locks, a warning says so and the run goes on without.

    Args:
        run_dir: The directory; it is made where it is missing, and the lock's file is removed from it at the end.
        option: What the user named the directory with, for the message.

    Yields:
        Nothing; the lock is held.

    Raises:
        ConfigError: Another process works on it; the message names its id and machine.
    """
    run_dir.mkdir(parents=True, exist_ok=True)
    path = run_dir.resolve() / LOCK_FILE
    descriptor = _acquire(path, run_dir, option)
    _held.add(path)
    try:
        yield
    finally:
        _held.discard(path)
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _acquire(path: Path, run_dir: Path, option: str) -> int:
    while True:
        if path in _held:  # its file is not opened: closing it would let this process's own lock go
            raise _in_use(f"this process ({os.getpid()})", run_dir, option)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError):
            os.close(descriptor)
            raise _in_use(_name_owner(path), run_dir, option) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                os.close(descriptor)
                raise
            LOG.warning(
                "%s: its file system knows no locks (%s): nothing keeps a second process from working on this run",
                run_dir,
                error.strerror,
            )
        if _is_there(descriptor, path):
            os.truncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(_owner()).encode(), 0)
            return descriptor
        os.close(descriptor)  # the process that held it removed the file just now; lock the new one


def _is_there(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _owner() -> dict[str, str | int]:
    since = datetime.now().isoformat(sep=" ", timespec="seconds")
    return {"pid": os.getpid(), "host": socket.gethostname(), "since": since}


def _name_owner(path: Path) -> str:
    try:
        owner = json.loads(path.read_text(encoding="utf-8"))
        return f"process {owner['pid']} on {owner['host']} (since {owner['since']})"
    except (OSError, ValueError, KeyError):  # it has not written its name yet
        return "another process"


def _in_use(who: str, run_dir: Path, option: str) -> ConfigError:
    return ConfigError(
        f"{option}: expected a run directory that no process works on, but {who} works on {run_dir}; wait until it "
        "has ended, end it, or choose another directory"
    )
