"""The LightningModule: hands batch and draws to the editor, logs what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor
from torch.distributed.tensor import DTensor

from mgie_lit.checkpoints.frozen import FROZEN_KEY, check_frozen, frozen_parts
from mgie_lit.checkpoints.runs import CONFIG_KEY, EDITOR_PREFIX, WANDB_KEY, load_trained
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.editor import Editor, Objective
from mgie_lit.errors import ConfigError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.models.freezing import frozen_roots, set_trainable
from mgie_lit.models.layout import lay_for_training, release
from mgie_lit.training.compute import AS_IT_IS, Compute
from mgie_lit.training.draws import draw
from mgie_lit.training.labels import share_label_mean
from mgie_lit.training.progress import recount_batches
from mgie_lit.training.sharding import shard
from mgie_lit.training.validation import LOSSES, ValidationLosses
from mgie_lit.types import EditBatch, EditLosses

VALIDATION_EPOCH = -1  # validation uses the same draws every time, so that its losses can be compared


class EditModule(lightning.LightningModule):
    """Trains an editor.

    Args:
        editor: Any system of one guide and one editor.
        objective: Loss weights and dropout.
        optimizer: Called with the editor's named parameters.
        schedule: Called with the optimizer and ``num_steps``.
        trainable: Name patterns of what trains (``models.freezing``).
        seed: Of noise, timesteps and dropout.
        config: The resolved config as plain containers; goes into every checkpoint.
        faults: Which faults of the released code are kept.
        sources: Name prefix of a part, e.g. ``guide.mllm``, -> folder that its weights were loaded from; what of it is
            frozen is not stored in checkpoints, but its hash is.
        compute: Memory and speed of a step.
    """

    def __init__(
        self,
        editor: Editor,
        objective: Objective,
        optimizer: Callable[..., torch.optim.Optimizer],
        schedule: Callable[..., torch.optim.lr_scheduler.LRScheduler],
        *,
        trainable: Sequence[str],
        seed: int = 0,
        config: Mapping[str, Any] | None = None,
        faults: Faults = NO_FAULTS,
        sources: Mapping[str, str] | None = None,
        compute: Compute = AS_IT_IS,
    ) -> None:
        super().__init__()
        self.editor = editor
        self.objective = objective
        self.make_optimizer = optimizer
        self.make_schedule = schedule
        self.seed = seed
        self.config = dict(config or {})
        self.faults = faults
        self.trainable_names = set_trainable(editor, trainable)
        self.frozen = frozen_parts(editor, sources or {}, stored=set(self.trainable_names))
        self.left_out = {name for part in self.frozen.values() for name in part.names}
        self.compute = compute
        compute.arrange(editor)
        # Told of every gradient; False = the optimizer must not use it.
        self.check_gradients: Callable[[EditModule, torch.optim.Optimizer, Tensor], bool] | None = None
        self.validation = ValidationLosses()
        self.is_step_skipped = False  # the last one: its gradients were dropped
        self.register_state_dict_post_hook(_leave_out_frozen)  # type: ignore[no-untyped-call]
        self.train()  # the trainer keeps the modes that it finds

    def train(self, mode: bool = True) -> Self:
        """Train mode for what trains; frozen parts stay in eval mode."""
        super().train(mode)
        for root in frozen_roots(self.editor):
            root.eval()
        return self

    def setup(self, stage: str) -> None:
        """Bring the editor into the shape that trains fastest; hashes of the frozen weights have been taken."""
        if stage == "fit":
            lay_for_training(self.editor)  # it may have edited before
            self.compute.begin(self.editor, self.left_out, self.trainer.precision)

    def teardown(self, stage: str) -> None:
        """Let edits have their own layout of the weights again."""
        if stage == "fit":
            release(self.editor)

    def training_step(self, batch: EditBatch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        if not self.faults.local_label_mean:
            batch = share_label_mean(batch)
        losses = self._losses(batch, self.current_epoch)
        self._log_losses(losses, len(batch))
        for group in self.optimizers().param_groups:  # type: ignore[union-attr]
            self.log(f"train/lr_{group['name']}", group["lr"], batch_size=len(batch))
        return losses.loss * batch.step_scale

    def validation_step(self, batch: EditBatch, batch_idx: int) -> None:
        """Losses of a validation batch, with the same draws every time."""
        self.validation.add(batch.sample_ids, self._losses(batch, VALIDATION_EPOCH))

    def on_validation_epoch_start(self) -> None:
        """Forget the losses of the last validation."""
        self.validation.clear()

    def on_validation_epoch_end(self) -> None:
        """Log the mean losses of all processes' shares; what they sum up is the same for any number of processes."""
        for name, mean in self.validation.means().items():
            self.log(f"val/{name}", mean, prog_bar=name == "loss")

    def configure_model(self) -> None:
        """Spread the weights over the processes, where the trainer asks for it."""
        if self.device_mesh is not None:
            shard(self.editor, self.device_mesh["data_parallel"])

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the norm of all gradients together, as ml-mgie, and log it from before; drop them if a check says so.

        Args:
            optimizer: All of its parameters count, whatever their group.
            gradient_clip_val: Largest norm; None and 0 clip nothing.
            gradient_clip_algorithm: ``norm`` or None.

        Raises:
            ConfigError: The trainer asks for clipping by value.
        """
        if gradient_clip_algorithm == "value":
            raise ConfigError("trainer.gradient_clip_algorithm: expected norm (or null), got value; leave it out")
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        limit = gradient_clip_val or float("inf")  # 0 and None are off, as everywhere in Lightning
        norm = torch.nn.utils.clip_grad_norm_(parameters, limit, foreach=True)
        if isinstance(norm, DTensor):  # of weights that are spread over the processes
            norm = norm.full_tensor()
        self.log("train/grad_norm", norm)
        self.is_step_skipped = self.check_gradients is not None and not self.check_gradients(self, optimizer, norm)
        if self.is_step_skipped:
            optimizer.zero_grad(set_to_none=True)  # without gradients it changes neither weights nor its own state

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Optimizer and schedule of the recipes; the schedule moves every step."""
        optimizer = self.make_optimizer(self.editor.named_parameters())
        num_steps = int(self.trainer.estimated_stepping_batches)
        schedule = self.make_schedule(optimizer, num_steps=num_steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what makes the file stand on its own: the config, frozen weights, wandb's run."""
        checkpoint[CONFIG_KEY] = self.config
        checkpoint[FROZEN_KEY] = {prefix: part.as_record() for prefix, part in self.frozen.items()}
        for logger in self.trainer.loggers if self._trainer else ():
            if logger.name == "wandb":
                checkpoint[WANDB_KEY] = str(logger.version)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint that was trained with other frozen weights; count batches as they are dealt out now."""
        check_frozen(checkpoint.get(FROZEN_KEY) or {}, self.frozen, Path("checkpoint"))
        position = checkpoint.get(EditDataModule.__qualname__)
        datamodule = self.trainer.datamodule if self._trainer else None  # type: ignore[attr-defined]
        if position and datamodule is not None:
            batch = datamodule.batch_size * self.trainer.world_size
            recount_batches(checkpoint, before=position.get("batch", batch), after=batch)

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:  # noqa: ANN401
        """Load what ``state_dict`` gives: exactly the frozen weights may be missing, whatever ``strict`` is.

        Args:
            state_dict: Of a checkpoint.
            strict: Without effect.
            assign: Not supported.

        Returns:
            Nothing to report.

        Raises:
            CheckpointError: Keys or shapes differ.
        """
        load_trained(self.editor, state_dict, "checkpoint", left_out=self.left_out)
        return torch.nn.modules.module._IncompatibleKeys([], [])

    def _losses(self, batch: EditBatch, epoch: int) -> EditLosses:
        draws = draw(
            batch.sample_ids,
            seed=self.seed,
            epoch=epoch,
            latent_shape=self.editor.batch_latent_shape(batch),
            num_timesteps=len(self.editor.scheduler.alphas_cumprod),
            last_timestep_prob=self.objective.last_timestep_prob,
        )
        return self.editor.losses(batch, draws.to(self.device), self.objective)

    def _log_losses(self, losses: EditLosses, batch_size: int) -> None:
        for name in LOSSES:
            value = getattr(losses, name)
            if value is not None:
                self.log(
                    f"train/{name}",
                    value.detach(),
                    batch_size=batch_size,
                    prog_bar=name == "loss",
                    sync_dist=self.trainer.world_size > 1,
                )


def _leave_out_frozen(module: EditModule, weights: dict[str, Any], prefix: str, metadata: Any) -> None:  # noqa: ANN401
    """Keep frozen weights that can be loaded again out of every state dict, also of one around this module."""
    for name in module.left_out:
        weights.pop(f"{prefix}{EDITOR_PREFIX}{name}", None)
