"""When checkpoints are written."""

from __future__ import annotations

from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that also keeps the last step, whatever ``every_n_train_steps`` is.

    It is written inside the training loop, where the position in the data is still known, so it can be resumed with a
    larger ``trainer.max_steps``.
    """

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save where it is time to, and after the last step."""
        every = self._every_n_train_steps
        if trainer.max_steps > 0 and trainer.global_step >= trainer.max_steps:
            self._every_n_train_steps = 1
        try:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        finally:
            self._every_n_train_steps = every
