"""When checkpoints are written, and how a run ends before its time."""

from __future__ import annotations

import logging
from typing import Any

import lightning
from lightning.pytorch.callbacks import ModelCheckpoint

from mgie_lit.training.csv_logger import CSVLogger
from mgie_lit.training.owed import OWED_KEY, Owed, settle
from mgie_lit.training.progress import begin_epoch_once
from mgie_lit.training.termination import Termination

LOG = logging.getLogger(__name__)


class StepCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint that also keeps the last step, whatever ``every_n_train_steps`` is.

    The last step is that of ``max_steps``, of ``max_time``, or the one after which all processes know of a signal. It
    is written inside the training loop, where the position in the data is still known, so it can be resumed. A
    checkpoint is written before the validation of its step, and notes what the step still owes (``training.owed``).

    Args:
        *args: Of ``ModelCheckpoint``.
        **kwargs: Of ``ModelCheckpoint``; a resumed run writes over files of later steps instead of counting versions.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(*args, **{"enable_version_counter": False} | kwargs)
        self._termination = Termination()
        self._owed: Owed | None = None

    def on_resume(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Do what the interrupted run still owed to the step of its checkpoint."""
        self._last_global_step_saved = trainer.global_step
        if self._owed is not None:
            settle(self._owed, trainer)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note signals from here on."""
        super().on_train_start(trainer, pl_module)
        self._termination.listen(trainer)

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Save where it is time to and after the last step, then end with status 143 if SIGTERM came, 130 by Ctrl-C."""
        status = self._termination.agreed()
        is_over = (status or trainer.should_stop) and not trainer.fit_loop._should_accumulate()
        every = self._every_n_train_steps
        if is_over or 0 < trainer.max_steps <= trainer.global_step:
            self._every_n_train_steps = 1
        try:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)
        finally:
            self._every_n_train_steps = every
        if status and is_over:
            self._termination.finish()
            if trainer.is_global_zero:
                LOG.info("stopped after step %d, with a checkpoint to go on from", trainer.global_step)
            raise SystemExit(status)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note what the step still owes; all that earlier steps have logged is on the disk before the checkpoint is."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        for logger in trainer.loggers:
            if isinstance(logger, CSVLogger):
                logger.sync()
        begin_epoch_once(checkpoint)
        checkpoint[OWED_KEY] = Owed.of(trainer).as_record()

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Remember it."""
        super().on_load_checkpoint(trainer, pl_module, checkpoint)
        self._owed = Owed.read(checkpoint)

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """All processes are here."""
        super().on_train_end(trainer, pl_module)
        self._termination.finish()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Give the signals back."""
        super().teardown(trainer, pl_module, stage)
        self._termination.close()
