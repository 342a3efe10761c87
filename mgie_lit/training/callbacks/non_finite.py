"""What happens when a loss or its gradient is not a number."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor, distributed

from mgie_lit.checkpoints.runs import find_checkpoint, load_checkpoint
from mgie_lit.errors import CheckpointError, ConfigError, TrainingError
from mgie_lit.training.module import EditModule
from mgie_lit.types import EditBatch

LOG = logging.getLogger(__name__)
ACTIONS = ("stop", "skip", "rollback")
_IDS_SHOWN = 32


@runtime_checkable
class GoesBack(Protocol):
    """A callback that keeps something which belongs to the weights."""

    def go_back(self, checkpoint: dict[str, Any]) -> None:
        """Take it from the checkpoint that the weights have just been taken from."""
        ...


@dataclass
class _Step:
    """What one process saw of an optimizer step."""

    number: int
    sample_ids: list[list[str]] = field(default_factory=list)  # of each batch
    losses: list[Tensor] = field(default_factory=list)  # of each batch


class NonFiniteGuard(lightning.Callback):
    """Watches the loss of every batch and the norm of every step's gradient, over all processes.

    ``stop`` ends the training with an error that names the samples of all processes, the step and the last checkpoint.
    The result of a step is looked at in the next one, and before a checkpoint or a validation: nothing waits for the
    device, and no checkpoint holds weights that a bad step has touched.

    ``skip`` drops the gradients of a bad step: weights, optimizer and moving average stay as they are, on all
    processes. The step counts, as do its rate and its place in the data. ``rollback`` also takes weights, optimizer and
    average from the last checkpoint; step, schedule and data go on after the bad batch. Both have to know before the
    optimizer moves, so the host waits for the device once a step.

    In 16-bit floats (``16-mixed``) gradients overflow now and then, and the scaler skips those steps by itself: there
    only the loss is watched.

    Args:
        run_dir: Where the checkpoints are.
        action: ``stop``, ``skip`` or ``rollback``.
        max_in_a_row: Steps that may be skipped without a good one between them.
        max_rollbacks: Times that a training may go back.

    Raises:
        ConfigError: A value can not be used.
    """

    def __init__(
        self, run_dir: str | Path, action: str = "stop", *, max_in_a_row: int = 10, max_rollbacks: int = 3
    ) -> None:
        if action not in ACTIONS:
            raise ConfigError(f"callbacks.non_finite.action: expected one of {', '.join(ACTIONS)}, got {action}")
        self.run_dir = Path(run_dir)
        self.action = action
        self.max_in_a_row = max_in_a_row
        self.max_rollbacks = max_rollbacks
        self.num_skipped = 0
        self.num_rollbacks = 0
        self._in_a_row = 0
        self._step = _Step(0)  # that is being summed up
        self._waiting: list[tuple[_Step, _Flag]] = []  # whose result has not been looked at
        self._trainer: Any = None

    def state_dict(self) -> dict[str, int]:
        """The counts, which a resumed run goes on with."""
        return {"skipped": self.num_skipped, "rollbacks": self.num_rollbacks, "in_a_row": self._in_a_row}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Go on with the counts of a checkpoint."""
        self.num_skipped, self.num_rollbacks = state_dict["skipped"], state_dict["rollbacks"]
        self._in_a_row = state_dict["in_a_row"]

    def on_fit_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Ask the module to show every gradient before the optimizer uses it."""
        assert isinstance(pl_module, EditModule)
        self._trainer = trainer
        pl_module.check_gradients = self._check

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: EditBatch, batch_idx: int
    ) -> None:
        """Remember whose gradient comes next."""
        self._step.number = trainer.global_step + 1
        self._step.sample_ids.append(batch.sample_ids)

    def on_before_backward(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, loss: Tensor
    ) -> None:
        """Remember the loss of the batch."""
        self._step.losses.append(loss.detach())

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Do not validate weights that are none."""
        self._look_at_waiting()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Do not keep weights that are none."""
        self._look_at_waiting()

    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """The last step counts, too."""
        self._look_at_waiting()

    def teardown(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """Let go of the last step's tensors."""
        self._step, self._waiting = _Step(0), []

    def _check(self, module: EditModule, optimizer: torch.optim.Optimizer, norm: Tensor) -> bool:
        """Whether the optimizer may use the gradients that it has; called on all processes in every step."""
        step, self._step = self._step, _Step(0)
        seen = step.losses if _scales(self._trainer) else [*step.losses, norm.detach()]
        flag = _Flag(_any_not_finite(seen))
        if self.action == "stop":
            self._look_at_waiting()
            self._waiting.append((step, flag))
            return True
        if not flag.is_set():
            self._in_a_row = 0
            return True
        self._skip(module, step)
        if self.action == "rollback":
            self._go_back(module, optimizer)
        return False

    def _look_at_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        for step, flag in waiting:
            if flag.is_set():
                raise TrainingError(
                    f"{self._describe(step)}; the training ends here. {self._last_checkpoint()}. Look at these "
                    "samples, lower optimizer.lr, or go on without them: resume=<run dir> "
                    "callbacks.non_finite.action=skip"
                )

    def _skip(self, module: EditModule, step: _Step) -> None:
        self.num_skipped += 1
        self._in_a_row += 1
        module.log("train/skipped_steps", float(self.num_skipped))
        what = self._describe(step)
        if self._in_a_row > self.max_in_a_row:
            raise TrainingError(
                f"{what}; that is one more than the {self.max_in_a_row} steps in a row that may be skipped "
                f"(callbacks.non_finite.max_in_a_row). {self._last_checkpoint()}. Lower optimizer.lr, or go back with "
                "callbacks.non_finite.action=rollback"
            )
        _warn("%s; the step was skipped (%s so far)", what, self.num_skipped)

    def _go_back(self, module: EditModule, optimizer: torch.optim.Optimizer) -> None:
        self.num_rollbacks += 1
        if self.num_rollbacks > self.max_rollbacks:
            raise TrainingError(
                f"callbacks.non_finite.max_rollbacks: expected at most {self.max_rollbacks} steps that are not finite, "
                f"got one more; {self._last_checkpoint()}. Lower optimizer.lr, or look at the samples named before"
            )
        path = find_checkpoint(self.run_dir)
        checkpoint = load_checkpoint(path)
        module.load_state_dict(checkpoint["state_dict"])
        optimizer.load_state_dict(checkpoint["optimizer_states"][0])
        for callback in self._trainer.callbacks:
            if isinstance(callback, GoesBack):
                callback.go_back(checkpoint)
        _warn("weights, optimizer and average went back to %s; step and data go on", path)

    def _describe(self, step: _Step) -> str:
        """One sentence about a bad step; talks to the other processes, which all are here."""
        finite = [bool(loss.isfinite()) for loss in step.losses]
        own = [ids for ids, good in zip(step.sample_ids, finite, strict=True) if not good]
        shares: list[Any] = [(own, step.sample_ids)]
        if _is_shared():
            shares = [None] * distributed.get_world_size()
            distributed.all_gather_object(shares, (own, step.sample_ids))
        bad = [name for share, _ in shares for ids in share for name in ids]
        names = bad or [name for _, share in shares for ids in share for name in ids]
        what = "loss" if bad else "gradient (of finite losses)"
        more = f" and {len(names) - _IDS_SHOWN} more" if len(names) > _IDS_SHOWN else ""
        return (
            f"step {step.number}: expected a finite {what}, got NaN or Inf with {', '.join(names[:_IDS_SHOWN])}{more}"
        )

    def _last_checkpoint(self) -> str:
        try:
            return f"The last checkpoint is {find_checkpoint(self.run_dir)}"
        except CheckpointError:
            return "There is no checkpoint yet"


class _Flag:
    """A truth value on its way from the device; asking for it later costs no wait."""

    def __init__(self, value: Tensor) -> None:
        self._event: torch.cuda.Event | None = None
        self._host = value
        if value.is_cuda:
            self._host = torch.empty(value.shape, dtype=value.dtype, pin_memory=True)
            self._host.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()  # type: ignore[no-untyped-call]
            self._event.record()

    def is_set(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._host)


def _any_not_finite(values: list[Tensor]) -> Tensor:
    """``()`` float32, above 0 where a value of some process is not finite; the same on all of them."""
    found = 1.0 - torch.stack([value.float() for value in values]).isfinite().all().float()
    if _is_shared():
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
    return found


def _is_shared() -> bool:
    return distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1


def _scales(trainer: lightning.Trainer) -> bool:
    return getattr(trainer.precision_plugin, "scaler", None) is not None


@rank_zero_only
def _warn(message: str, *values: object) -> None:
    LOG.warning(message, *values)
