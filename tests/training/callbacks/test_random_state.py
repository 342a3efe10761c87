from __future__ import annotations

import logging
import random
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from mgie_lit.training.callbacks.random_state import (
    RANDOM_KEY,
    RandomStates,
    capture_random_state,
    restore_random_state,
)


def draws() -> list[float]:
    return [random.random(), float(np.random.rand()), float(torch.rand(())), float(np.random.randn())]


def test_all_generators_come_back(tmp_path: Any) -> None:  # noqa: ANN401
    np.random.randn()  # leaves a second normal in the cache of NumPy's generator
    state = capture_random_state()
    torch.save(state, tmp_path / "state.pt")
    expected = draws()
    assert draws() != expected
    restore_random_state(torch.load(tmp_path / "state.pt", weights_only=True))
    assert draws() == expected


def test_states_are_put_back_at_the_first_batch() -> None:
    trainer: Any = SimpleNamespace(world_size=1, global_rank=0)
    checkpoint: dict[str, Any] = {}
    RandomStates().on_save_checkpoint(trainer, None, checkpoint)  # type: ignore[arg-type]
    expected = draws()
    resumed = RandomStates()
    resumed.on_load_checkpoint(trainer, None, checkpoint)  # type: ignore[arg-type]
    draws()  # what loaders and validation draw at the start
    resumed.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]
    assert draws() == expected
    resumed.on_train_batch_start(trainer, None, None, 1)  # type: ignore[arg-type]
    assert draws() != expected


def test_another_number_of_processes_begins_anew(caplog: pytest.LogCaptureFixture) -> None:
    trainer: Any = SimpleNamespace(world_size=2, global_rank=1)
    callback = RandomStates()
    with caplog.at_level(logging.WARNING):
        callback.on_load_checkpoint(trainer, None, {RANDOM_KEY: [capture_random_state()]})  # type: ignore[arg-type]
    assert "the run had 1 processes and now has 2" in caplog.text
    before = draws()
    callback.on_train_batch_start(trainer, None, None, 0)  # type: ignore[arg-type]
    assert draws() != before
