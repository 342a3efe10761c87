"""The states of all random generators in every checkpoint."""

from __future__ import annotations

import logging
import random
from typing import Any

import lightning
import numpy as np
import torch

from mgie_lit.training.gathering import gather

LOG = logging.getLogger(__name__)
RANDOM_KEY = "mgie_random_states"  # in a checkpoint: one entry a process


class RandomStates(lightning.Callback):
    """Keeps Python's, NumPy's, torch's and CUDA's generators of every process through a resume.

    The draws of a training do not come from them (``training.draws``); a layer or a callback of somebody's own may.
    What happens between two batches, such as a validation, leaves them as they were: whether it takes place before or
    after a resume makes no difference to the steps that follow.
    """

    def __init__(self) -> None:
        self._pending: dict[str, Any] | None = None  # to be put back when the next batch begins

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the states of all processes, as plain lists and tensors."""
        checkpoint[RANDOM_KEY] = gather(self._pending or capture_random_state())

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember this process's states; another number of processes begins with fresh ones."""
        states = checkpoint.get(RANDOM_KEY) or []
        if len(states) == trainer.world_size:
            self._pending = states[trainer.global_rank]
        elif states:
            LOG.warning(
                "the run had %s processes and now has %s: generators begin anew (order and draws of the training do "
                "not depend on them)",
                len(states),
                trainer.world_size,
            )

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Validate from the states after the training step."""
        if self._pending is None:
            self._pending = capture_random_state()
        else:
            restore_random_state(self._pending)

    def on_train_batch_start(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Put the states back, after what was drawn for loaders and validation."""
        if self._pending is not None:
            restore_random_state(self._pending)
            self._pending = None


def seed_random_state(seed: int, rank: int) -> None:
    """Begin all generators of a process at a place of its own.

    Args:
        seed: Of the run.
        rank: Of the process.
    """
    words = [int(word) for word in np.random.SeedSequence((seed, rank)).generate_state(3)]
    random.seed(words[0])
    np.random.seed(words[1])
    torch.manual_seed(words[2])


def capture_random_state() -> dict[str, Any]:
    """States of this process's generators in plain lists, numbers and tensors."""
    version, words, gauss = random.getstate()
    kind, keys, position, has_gauss, cached = np.random.get_state()
    return {
        "python": [version, list(words), gauss],
        "numpy": [str(kind), [int(key) for key in keys], int(position), int(has_gauss), float(cached)],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def restore_random_state(state: dict[str, Any]) -> None:
    """Undo what was drawn since `capture_random_state`.

    Args:
        state: What it gave.
    """
    version, words, gauss = state["python"]
    random.setstate((version, tuple(words), gauss))
    kind, keys, *rest = state["numpy"]
    np.random.set_state((kind, np.array(keys, dtype=np.uint32), *rest))
    torch.set_rng_state(state["torch"].cpu())
    if state["cuda"] and len(state["cuda"]) == torch.cuda.device_count():
        torch.cuda.set_rng_state_all([value.cpu() for value in state["cuda"]])
