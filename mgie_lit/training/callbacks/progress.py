"""The progress bar."""

from __future__ import annotations

import lightning
from lightning.pytorch.callbacks import RichProgressBar


class StepProgress(RichProgressBar):
    """Rich progress bar of a training that is measured in steps: the number of epochs is not known, so not shown."""

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What is shown beside the bar: the losses, without a version number."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch}"
