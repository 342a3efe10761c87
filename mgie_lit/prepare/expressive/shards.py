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
# Rank and number of processes as torchrun and srun tell them. Of Slurm's numbers that of the step counts: a batch
# script that starts no step has SLURM_NTASKS, too, and is one process.
LAUNCHERS = (("RANK", "WORLD_SIZE"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS"))


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
        given: ``<index>/<count>`` with the index from 0; None = as torchrun or srun say, or all the work.
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
        found = next(((rank, count) for rank, count in LAUNCHERS if _is_set(rank, count, environment)), None)
        if found is None:
            return Shard()
        name, text = "/".join(found), "/".join(str(environment.get(key)) for key in found)
    match = re.fullmatch(r"(\d+)/(\d+)", str(text))
    if match is None or not int(match[1]) < int(match[2]):
        raise ConfigError(
            f"{name}: expected <index>/<count> with an index from 0 below the count, e.g. 0/4, got {text}"
        )
    return Shard(int(match[1]), int(match[2]))


def require_one_process(command: str, workers: str, environment: Mapping[str, str] = os.environ) -> None:
    """Refuse to start as one of several processes, which would write the same files.

    Args:
        command: As it is typed.
        workers: Config key of its loader processes.
        environment: Of the process.

    Raises:
        ConfigError: torchrun or srun has started several.
    """
    count = choose_shard(None, environment).count
    if count > 1:
        raise ConfigError(
            f"{command}: expected to be started once, got {count} processes (torchrun or srun); start it without them, "
            f"{workers} says how many processes read"
        )


def _is_set(rank: str, count: str, environment: Mapping[str, str]) -> bool:
    """Whether a launcher has started this process; half of torchrun's variables are a mistake that is told."""
    if rank == "RANK":
        return rank in environment or count in environment
    return rank in environment and count in environment
