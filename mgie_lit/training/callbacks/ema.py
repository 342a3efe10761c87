"""A moving average of what trains, for validation and evaluation."""

from __future__ import annotations

from typing import Any

import lightning
import torch
from torch import Tensor

from mgie_lit.checkpoints.runs import EMA_KEY
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.training.module import EditModule


class ExponentialMovingAverage(lightning.Callback):
    """Averages the trainable tensors after every optimizer step, ``ema = d ema + (1 - d) weights``.

    The decay warms up, ``d = min(decay, (1 + n) / (10 + n))`` after ``n`` updates (as in TensorFlow's moving average),
    so that the start does not weigh for ever. Frozen tensors are not copied. Checkpoints hold both.

    Args:
        decay: Largest decay, in [0, 1); 0.9999 for long trainings.
        validate: Validate and edit with the average instead of the weights.

    Raises:
        ConfigError: ``decay`` is out of range.
    """

    def __init__(self, decay: float = 0.9999, *, validate: bool = True) -> None:
        if not 0 <= decay < 1:
            raise ConfigError(f"callbacks.ema.decay: expected a number >= 0 and < 1, got {decay}")
        self.decay = decay
        self.validate = validate
        self.num_updates = 0
        self._average: dict[str, Tensor] = {}
        self._weights: list[Tensor] | None = None  # the raw ones while the average is in their place
        self._last_step = 0

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Begin at the weights, or where the resumed run stopped."""
        self._last_step = trainer.global_step
        for name, parameter in _trainable(pl_module).items():
            loaded = self._average.get(name)
            source = parameter.detach() if loaded is None else loaded
            self._average[name] = source.to(parameter.device, torch.float32, copy=True)

    @torch.no_grad()
    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: Any,  # noqa: ANN401
        batch_idx: int,
    ) -> None:
        """Average, if the optimizer has changed the weights."""
        if trainer.global_step == self._last_step:
            return
        self._last_step = trainer.global_step
        assert isinstance(pl_module, EditModule)
        if pl_module.is_step_skipped:
            return
        decay = min(self.decay, (1 + self.num_updates) / (10 + self.num_updates))
        self.num_updates += 1
        weights = [parameter.detach().float() for parameter in _trainable(pl_module).values()]
        torch._foreach_lerp_(list(self._average.values()), weights, 1 - decay)

    def go_back(self, checkpoint: dict[str, Any]) -> None:
        """Take the average that belongs to the weights of a checkpoint of this run."""
        stored = checkpoint[EMA_KEY]
        self.num_updates = int(stored["num_updates"])
        for name, value in self._average.items():
            value.copy_(stored["weights"][name])

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the average in the weights' place."""
        if self.validate and self.num_updates and self._weights is None:
            parameters = list(_trainable(pl_module).values())
            self._weights = [parameter.detach().clone() for parameter in parameters]
            _copy(parameters, list(self._average.values()))

    def on_validation_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Put the weights back."""
        if self._weights is not None:
            _copy(list(_trainable(pl_module).values()), self._weights)
            self._weights = None

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Put the weights back, whatever happened."""
        self.on_validation_end(trainer, pl_module)

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the average, under the names of the editor's parameters."""
        checkpoint[EMA_KEY] = {"decay": self.decay, "num_updates": self.num_updates, "weights": dict(self._average)}

    def on_load_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Go on with the average of the checkpoint."""
        stored = checkpoint.get(EMA_KEY)
        if stored is None:
            raise CheckpointError(
                "callbacks.ema: expected a checkpoint with a moving average, got one of a run without; resume it "
                "without callbacks.ema"
            )
        self.num_updates = int(stored["num_updates"])
        self._average = dict(stored["weights"])


def _trainable(module: lightning.LightningModule) -> dict[str, Tensor]:
    assert isinstance(module, EditModule)
    parameters = dict(module.editor.named_parameters())
    return {name: parameters[name] for name in module.trainable_names}


@torch.no_grad()
def _copy(targets: list[Tensor], sources: list[Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)
