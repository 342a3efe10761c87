"""The progress bar."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import lightning
from lightning.pytorch.callbacks import RichProgressBar

LOG = logging.getLogger(__name__)


class StepProgress(RichProgressBar):
    """Rich progress bar of a training, in optimizer steps where ``max_steps`` ends it, else in batches of an epoch.

    Steps have one bar for the whole training: an epoch may be a single batch. Where nothing can be drawn, as in a log,
    a line is written now and then.

    Args:
        log_every: Seconds between two lines in a log, at least.
        clock: Gives seconds.
        **kwargs: Of Lightning's bar.
    """

    def __init__(
        self,
        log_every: float = 30,
        *,
        clock: Callable[[], float] = time.monotonic,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        super().__init__(**kwargs)
        self._log_every = log_every
        self._clock = clock
        self._began = (0.0, 0)  # time and step
        self._told = 0.0  # time of the last line

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin to count."""
        super().on_train_start(trainer, pl_module)
        self._told = self._clock()
        self._began = (self._told, trainer.global_step)

    def on_train_epoch_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """An epoch of batches has a bar of its own, all steps have one together."""
        if not self._counts_steps:
            super().on_train_epoch_start(trainer, pl_module)
        elif self.is_enabled and self.train_progress_bar_id is None:
            self._initialize_train_progress_bar_id()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Move the bar, or write a line."""
        super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        if self._console is None or self._console.is_interactive:  # none on other ranks than the first
            return
        now = self._clock()
        if now - self._told >= self._log_every:
            self._told = now
            self._tell(trainer, pl_module)

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, int | str | float | dict[str, float]]:
        """What is shown beside the bar: the losses, without a version number."""
        metrics = super().get_metrics(trainer, pl_module)
        metrics.pop("v_num", None)
        return metrics

    @property
    def _counts_steps(self) -> bool:
        return self.trainer.max_steps > 0

    def _get_train_description(self, current_epoch: int) -> str:
        return f"epoch {current_epoch}"

    def _initialize_train_progress_bar_id(self) -> None:
        if not self._counts_steps or self.progress is None:
            super()._initialize_train_progress_bar_id()
            return
        trainer = self.trainer  # a resumed training did not do its first steps just now: they are no speed
        self.train_progress_bar_id = self.progress.add_task(
            "step", total=trainer.max_steps, completed=trainer.global_step
        )

    def _update(self, progress_bar_id: Any, current: int, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        if progress_bar_id == self.train_progress_bar_id and self._counts_steps:
            current = self.trainer.global_step
        super()._update(progress_bar_id, current, *args, **kwargs)  # Lightning's versions differ in what follows

    def _tell(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        began, first = self._began
        done, left = trainer.global_step - first, trainer.max_steps - trainer.global_step
        words = [f"epoch {trainer.current_epoch}, step {trainer.global_step}"]
        if self._counts_steps and done:
            words[0] += f" of {trainer.max_steps}"
            words.append(f"{timedelta(seconds=round((self._told - began) / done * left))} left")
        shown = self.get_metrics(trainer, pl_module).items()
        words += [f"{name} {value:.3f}" for name, value in shown if isinstance(value, int | float)]
        LOG.info("%s", ", ".join(words))
