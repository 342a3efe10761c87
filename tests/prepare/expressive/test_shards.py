"""Which part of the work a process does."""

from __future__ import annotations

import pytest

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.shards import Shard, choose_shard, require_one_process


@pytest.mark.parametrize(
    ("given", "environment", "shard"),
    [
        (None, {}, Shard(0, 1)),
        (None, {"RANK": "1", "WORLD_SIZE": "3"}, Shard(1, 3)),
        (None, {"SLURM_PROCID": "2", "SLURM_STEP_NUM_TASKS": "4"}, Shard(2, 4)),
        (None, {"SLURM_PROCID": "0", "SLURM_NTASKS": "4"}, Shard(0, 1)),  # a batch script outside of a step
        (None, {"RANK": "1", "WORLD_SIZE": "3", "SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"}, Shard(1, 3)),
        ("0/2", {"RANK": "1", "WORLD_SIZE": "3"}, Shard(0, 2)),
        ("11/12", {}, Shard(11, 12)),
    ],
)
def test_shards(given: str | None, environment: dict[str, str], shard: Shard) -> None:
    assert choose_shard(given, environment) == shard
    assert choose_shard(str(shard), {}) == shard


@pytest.mark.parametrize("given", ["2/2", "1", "a/b", "-1/2", "0/0", "0/2/3", ""])
def test_no_such_shard(given: str) -> None:
    with pytest.raises(ConfigError, match=rf"expressive\.shard: expected <index>/<count> .* e\.g\. 0/4, got {given}"):
        choose_shard(given, {})


def test_half_an_environment() -> None:
    with pytest.raises(ConfigError, match=r"RANK/WORLD_SIZE: expected .* got 1/None"):
        choose_shard(None, {"RANK": "1"})


def test_what_one_process_does() -> None:
    require_one_process("mgie prepare cache", "cache.num_workers", {"RANK": "0", "WORLD_SIZE": "1"})
    with pytest.raises(
        ConfigError, match=r"^mgie prepare cache: expected to be started once, got 2 processes .*cache\.n"
    ):
        require_one_process("mgie prepare cache", "cache.num_workers", {"RANK": "1", "WORLD_SIZE": "2"})
