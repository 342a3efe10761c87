from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from torch import distributed

from mgie_lit.errors import ConfigError
from mgie_lit.training.callbacks.same_config import SameConfig

FIRST, SECOND = "a" * 64, "b" * 64


def setup(config_hash: str, path: Path) -> None:
    trainer: Any = SimpleNamespace(is_global_zero=True)
    SameConfig(config_hash, path).setup(trainer, None, "fit")  # type: ignore[arg-type]


def pretend_ranks(hashes: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def gather(found: list[Any], own: str) -> None:
        found[:] = hashes

    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed, "get_world_size", lambda: len(hashes))
    monkeypatch.setattr(distributed, "all_gather_object", gather)


def test_hashes_of_all_ranks_are_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "versions.json"
    path.write_text(json.dumps({"config_hash": FIRST}))
    setup(FIRST, path)
    assert json.loads(path.read_text()) == {"config_hash": FIRST, "rank_config_hashes": [FIRST]}
    pretend_ranks([FIRST, FIRST], monkeypatch)
    setup(FIRST, path)
    assert json.loads(path.read_text())["rank_config_hashes"] == [FIRST, FIRST]
    assert [file.name for file in tmp_path.iterdir()] == ["versions.json"]


def test_without_a_recorded_run_it_only_compares(tmp_path: Path) -> None:
    setup(FIRST, tmp_path / "versions.json")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.faults
def test_another_config_on_one_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when each rank lets a sweeper draw its own rate."""
    pretend_ranks([FIRST, SECOND], monkeypatch)
    message = r"expected one config on all 2 processes, got the hashes aaaaaaaaaaaa on rank 0, bbbbbbbbbbbb on rank 1; "
    with pytest.raises(ConfigError, match=message):
        setup(FIRST, tmp_path / "versions.json")
