"""Examples that are known to be bad: a list made before, or found by trying to open each one."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from mgie_lit.data.readers.annotations import optional_text, read_lines
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOG = logging.getLogger(__name__)

ON_ERROR = ("error", "skip")
_NAMES_SHOWN = 5
_AT_ONCE = 256  # examples that the threads are given together
_ANNOUNCE = 1000  # examples; checking more than these is announced, as it takes a while


def check_on_error(value: str, option: str) -> str:
    """Make sure that a value is ``error`` or ``skip``.

    Args:
        value: What was given.
        option: Config key, for the message.

    Returns:
        The value.

    Raises:
        ConfigError: It is neither.
    """
    if value not in ON_ERROR:
        raise ConfigError(f"{option}.on_error: expected one of {', '.join(ON_ERROR)}, got {value!r}; use one of these")
    return value


def read_exclusions(path: str | Path, option: str) -> dict[str, str]:
    """Ids that shall be left out, with what is wrong with each.

    Args:
        path: JSON lines with ``id`` and ``problem``, as `mgie prepare check` writes them.
        option: Config key, for messages.

    Returns:
        Id -> problem, in the file's order.

    Raises:
        ConfigError: The file is not there.
        DataError: A line has no ``id``.
    """
    path = Path(path).expanduser()
    if path.is_dir() or not path.exists():  # the null device names none
        raise ConfigError(
            f"{option}.exclude: expected a file made by `mgie prepare check`, got {path}, which is not a file; check "
            "its spelling"
        )
    problems: dict[str, str] = {}
    for number, entry in read_lines(path):
        if not isinstance(entry.get("id"), str):
            raise DataError(f"{path}, line {number}: expected a text under `id`, got {entry.get('id')!r}; repair it")
        problems[entry["id"]] = optional_text(entry, "problem") or "no reason given"
    return problems


def find_bad(
    positions: Sequence[int], fault_of: Callable[[int], str], name: str, *, wanted: int | None = None
) -> dict[int, str]:
    """Try examples, from the first, until enough good ones are found.

    Args:
        positions: Of the examples.
        fault_of: What is wrong with the example at a position, empty where it is fine; called by several threads.
        name: Of the data set, for messages.
        wanted: Number of good examples; None = try all.

    Returns:
        Position -> fault, in order.
    """
    wanted = len(positions) if wanted is None else min(wanted, len(positions))
    is_long = wanted >= _ANNOUNCE
    if is_long:
        LOG.info(
            "data.on_error=skip: opening all %d examples of %s to find the bad ones; `mgie prepare check` does it once "
            "and for all (data.exclude=<its file>)",
            wanted,
            name,
        )
    bad: dict[int, str] = {}
    tried = 0
    with (
        ThreadPoolExecutor() as pool,
        Progress(console=Console(stderr=True), transient=True, disable=not is_long) as bar,
    ):
        task = bar.add_task(f"checking {name}", total=wanted)
        while tried < len(positions) and tried - len(bad) < wanted:
            some = positions[tried : tried + min(_AT_ONCE, wanted - tried + len(bad))]
            bad |= {position: fault for position, fault in zip(some, pool.map(fault_of, some), strict=True) if fault}
            tried += len(some)
            bar.update(task, completed=tried - len(bad))
    return bad


def report_bad(problems: Mapping[str, str], total: int, *, on_error: str, option: str) -> None:
    """Name the bad examples: as an error, or as a warning that they are left out.

    Args:
        problems: Id -> problem; nothing happens if there are none.
        total: Number of examples, the bad ones included.
        on_error: ``error`` or ``skip``.
        option: Config key, for messages.

    Raises:
        DataError: There are bad examples, and ``on_error`` is ``error``.
    """
    if not problems:
        return
    shown = "; ".join(f"{name}: {problem}" for name, problem in list(problems.items())[:_NAMES_SHOWN])
    more = "; ..." if len(problems) > _NAMES_SHOWN else ""
    if on_error == "error":
        raise DataError(
            f"{option}: {len(problems)} of {total} examples are bad ({shown}{more}); repair them, or go on without "
            f"them with {option}.on_error=skip"
        )
    LOG.warning("%s.on_error=skip: left out %d of %d examples: %s%s", option, len(problems), total, shown, more)
