"""The progress bar."""

from __future__ import annotations

import lightning
from lightning.pytorch.callbacks import RichProgressBar


class StepProgress(RichProgressBar):
    """Rich progress bar of a training that is measured in steps: the number of epochs is not known, so not shown."""

    @property
    def total_train_batches(self) -> int | float:
        """Batches of this epoch: what is left of ``max_steps``, each of ``accumulate_grad_batches`` batches."""
        trainer = self.trainer
        if trainer.max_steps < 0:
            return trainer.num_training_batches
        left = (trainer.max_steps - trainer.global_step) * trainer.accumulate_grad_batches
        return min(trainer.num_training_batches, left)

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What is shown beside the bar: the losses, without a version number."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch}"
