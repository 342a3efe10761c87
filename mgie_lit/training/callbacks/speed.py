"""Examples per second."""

from __future__ import annotations

import time
from typing import Any

import lightning

from mgie_lit.types import EditBatch


class Speed(lightning.Callback):
    """Logs ``train/examples_per_second``: wall clock of training steps and their data, over all ranks.

    Validation and checkpoints between two steps are not counted.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._examples = 0

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: EditBatch,
        batch_idx: int,
    ) -> None:
        """Count a batch; log where the trainer logs."""
        now = time.perf_counter()
        if self._since is None:
            self._since = now
            return
        self._examples += len(batch) * trainer.world_size
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log("train/examples_per_second", self._examples / (now - self._since))
            self._since, self._examples = now, 0

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop the clock, as validation does."""
        self._since, self._examples = None, 0

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock; the next step starts it again."""
        self._since, self._examples = None, 0
