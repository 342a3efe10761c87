"""Lightning's Trainer with one moment more for callbacks: all has been restored, nothing has run."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import lightning


@runtime_checkable
class ActsOnResume(Protocol):
    """A callback that has something to finish before a resumed training goes on."""

    def on_resume(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Called in a training that goes on from a checkpoint, in all processes.

        Loops, weights, optimizer and callbacks are as they were when the checkpoint was written. The training itself
        may be over: then this is the last that happens.

        Args:
            trainer: Its step and epoch are those of the checkpoint.
            pl_module: On its device.
        """
        ...


class ResumingTrainer(lightning.Trainer):
    """Calls ``on_resume`` of the callbacks that have it; else it is Lightning's.

    Lightning's own ``on_train_start`` is too late: counters have moved on to the next batch by then, and after the last
    step it never comes.
    """

    def _run_stage(self) -> Any:  # noqa: ANN401 - as Lightning's
        if self.training and self.fit_loop.restarting:
            for callback in self.callbacks:  # type: ignore[attr-defined]
                if isinstance(callback, ActsOnResume):
                    callback.on_resume(self, self.lightning_module)
        return super()._run_stage()
