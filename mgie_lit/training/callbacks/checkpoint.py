"""When checkpoints are written, and how a run ends before its time."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

TERMINATED = 128 + signal.SIGTERM  # exit status of a run that was asked to end, and did


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that also keeps the last step, whatever ``every_n_train_steps`` is.

    The last step is that of ``max_steps``, of ``max_time``, or the one in which SIGTERM came; all processes agree on
    it. It is written inside the training loop, where the position in the data is still known, so it can be resumed.
    """

    _is_terminated = False
    _previous_handler: Any = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note SIGTERM instead of acting at once: Lightning's own handler would talk to other processes from within."""
        super().on_train_start(trainer, pl_module)
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._terminate)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save where it is time to and after the last step, then end with status 143 if SIGTERM came."""
        is_terminated = trainer.strategy.reduce_boolean_decision(self._is_terminated, all=False)
        is_over = (is_terminated and not trainer.fit_loop._should_accumulate()) or trainer.should_stop
        every = self._every_n_train_steps
        if is_over or 0 < trainer.max_steps <= trainer.global_step:
            self._every_n_train_steps = 1
        try:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        finally:
            self._every_n_train_steps = every
        if is_terminated and is_over:
            raise SystemExit(TERMINATED)

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give the signal back."""
        super().teardown(trainer, pl_module, stage)
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def _terminate(self, signum: int, frame: FrameType | None) -> None:
        self._is_terminated = True
