"""Which part of the work a process does."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

OPTION = "expressive.shard"


@dataclass(frozen=True, slots=True)
class Shard:
    """One of ``count`` processes that share the work; batch ``b`` is done by shard ``b % count``."""

    index: int = 0  # from 0
    count: int = 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def choose_shard(given: str | None, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard of this process.

    Args:
        given: ``<index>/<count>`` with the index from 0; None = torchrun's RANK and WORLD_SIZE, or all the work.
        environment: Of the process.

    Returns:
        The shard.

    Raises:
        ConfigError: There is no such shard.

    >>> choose_shard("1/4")
    Shard(index=1, count=4)
    """
    name, text = OPTION, given
    if given is None:
        if "RANK" not in environment and "WORLD_SIZE" not in environment:
            return Shard()
        name, text = "RANK/WORLD_SIZE", f"{environment.get('RANK')}/{environment.get('WORLD_SIZE')}"
    match = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if match is None or not int(match[1]) < int(match[2]):
        raise ConfigError(
            f"{name}: expected <index>/<count> with an index from 0 below the count, e.g. 0/4, got {text}"
        )
    return Shard(int(match[1]), int(match[2]))
