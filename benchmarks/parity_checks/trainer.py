"""Several optimizer steps: our Lightning training on recorded order and draws, and plain loops at a constant rate."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import lightning
import torch
from omegaconf import OmegaConf, open_dict
from torch import Tensor
from torch.utils.data import DataLoader

from mgie_lit.checkpoints.names.reference import reference_name
from mgie_lit.config.build_training import build_trainer
from mgie_lit.training import module as training_module
from mgie_lit.types import EditDraws
from parity_checks.bundle import TRAIN_MANIFEST, TRAINER_RUN, NotRecorded
from parity_checks.gradients import part_norm
from parity_checks.model import Rebuilt
from parity_checks.rows import Table

GROUP, PLAIN = "trainer", "plain loop"
PLAIN_PREFIX, PLAIN_NORMS = "traj_clip_", "traj_final_norms"
_NAMES = {"loss": "loss", "ce": "loss_lm", "edit": "loss_edit"}  # name in the recording -> ours


class _Log(lightning.Callback):
    """What each step logged, and the rates that it left behind."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, *_: object) -> None:
        """Keep the step's numbers."""
        values = {name: float(value) for name, value in trainer.callback_metrics.items()}
        rates = [group["lr"] for group in trainer.optimizers[0].param_groups]
        assert len(set(rates)) == 1, f"one rate for all parts expected, got {rates}"
        self.steps.append(values | {"lr": rates[0]})


def check_trainer(rebuilt: Rebuilt, table: Table) -> None:
    """The steps of the reference's own trainer through ours: losses, rates, norms."""
    run = rebuilt.bundle.json(TRAINER_RUN)
    steps: list[dict[str, Any]] = run.get("steps") or []
    if not steps:
        for what in ("loss", "ce", "edit", "gradient norm before clipping", "learning rate after the step"):
            table.absent(GROUP, what, f"no {TRAINER_RUN}" if not run else f"no steps in {TRAINER_RUN}")
        return
    with table.guard(GROUP, "the training"):
        _check_training(rebuilt, run, table)
    rebuilt.restore()


def _check_training(rebuilt: Rebuilt, run: Mapping[str, Any], table: Table) -> None:
    steps = run["steps"]
    log, optimizer = train(rebuilt, steps)
    for key, name in (
        *((key, f"train/{ours}") for key, ours in _NAMES.items()),
        ("grad_norm_before_clip", "train/grad_norm"),
        ("lr_logged_after_step", "lr"),
    ):
        theirs = [step[key] for step in steps if key in step]
        ours = [logged.get(name, float("nan")) for logged in log.steps] if theirs else None
        table.compare(GROUP, key.replace("_", " "), ours, theirs or None, note=f"{len(theirs)} steps")
    _check_optimizer(rebuilt, optimizer, run, table)
    _check_norms(rebuilt, GROUP, run.get("final_norms"), table)


def check_plain_loops(rebuilt: Rebuilt, table: Table) -> None:
    """AdamW at a constant rate, with and without clipping; timesteps and dropout are those of the trainer's steps."""
    choices = rebuilt.bundle.json(TRAINER_RUN).get("steps") or []
    loops = {key: steps for key, steps in rebuilt.bundle.results.items() if key.startswith(PLAIN_PREFIX)}
    if not loops or not choices:
        table.absent(PLAIN, "losses and gradient norms", f"no {TRAINER_RUN if loops else TRAIN_MANIFEST} with them")
    for key, steps in loops.items() if choices else ():
        limit = key.removeprefix(PLAIN_PREFIX)
        with table.guard(PLAIN, f"clip {limit}"):
            ours = plain_loop(rebuilt, choices, len(steps), None if limit == "None" else float(limit))
            for name in (*_NAMES, "grad_norm"):
                theirs = [step[name] for step in steps if name in step]
                table.compare(PLAIN, f"{name}, clip {limit}", [step[name] for step in ours], theirs or None)
            if key == list(loops)[-1]:
                _check_norms(rebuilt, PLAIN, rebuilt.bundle.results.get(PLAIN_NORMS), table)
        rebuilt.restore()


def train(rebuilt: Rebuilt, steps: Sequence[Mapping[str, Any]]) -> tuple[_Log, torch.optim.Optimizer]:
    """A Lightning training of as many optimizer steps.

    Args:
        rebuilt: Its weights are changed.
        steps: Of the recording: ``order`` of the samples, ``ts``, ``prob`` and ``max_norm`` of each.

    Returns:
        What was logged, and the optimizer.
    """
    config = rebuilt.config.copy()
    with open_dict(config):
        config.logger, config.callbacks = OmegaConf.create({}), OmegaConf.create({})
        config.trainer.update(
            gradient_clip_val=steps[0].get("max_norm", config.trainer.gradient_clip_val),
            enable_progress_bar=False,
            enable_checkpointing=False,
            limit_val_batches=0,
            logger=False,
        )
    log = _Log()
    samples: Any = range(len(rebuilt.batch))
    orders = [step["order"] for step in steps]
    loader: DataLoader[int] = DataLoader(samples, batch_sampler=orders, collate_fn=rebuilt.rows)
    draws = [_draws(rebuilt, f"trainer{index}", step) for index, step in enumerate(steps)]
    with _quiet(), mock.patch.object(training_module, "draw", side_effect=draws):
        trainer = build_trainer(config)
        trainer.callbacks.append(log)  # type: ignore[attr-defined]
        trainer.fit(rebuilt.module, loader)
    return log, trainer.optimizers[0]


def plain_loop(
    rebuilt: Rebuilt, choices: Sequence[Mapping[str, Any]], num_steps: int, limit: float | None
) -> list[dict[str, float]]:
    """AdamW at a constant rate on the whole batch.

    Args:
        rebuilt: Its weights are changed.
        choices: ``ts`` and ``prob`` of each step.
        num_steps: Steps.
        limit: Largest norm of the gradient; None = any.

    Returns:
        Losses and gradient norm of each step, by the recording's names.

    Raises:
        NotRecorded: There are too few choices.
    """
    if num_steps > len(choices):
        raise NotRecorded(f"timesteps and dropout of {len(choices)} steps, the loop has {num_steps}")
    module = rebuilt.module
    optimizer = module.make_optimizer(rebuilt.editor.named_parameters())
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    steps = []
    for index, choice in enumerate(choices[:num_steps]):
        losses = rebuilt.editor.losses(rebuilt.batch, _draws(rebuilt, f"traj{index}", choice), module.objective)
        optimizer.zero_grad()
        losses.loss.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, float("inf") if limit is None else limit)
        optimizer.step()
        values = {name: float(getattr(losses, ours).detach()) for name, ours in _NAMES.items()}
        steps.append(values | {"grad_norm": float(norm)})
    return steps


def _draws(rebuilt: Rebuilt, name: str, choice: Mapping[str, Any]) -> EditDraws:
    return rebuilt.draws(name, {}, choice)


def _check_optimizer(rebuilt: Rebuilt, optimizer: torch.optim.Optimizer, run: Mapping[str, Any], table: Table) -> None:
    """Settings of the optimizer, and how much it trains; the reference has a group for what could decay."""
    groups = run.get("groups") or []
    for key, ours in (("betas", "betas"), ("eps", "eps"), ("wd", "weight_decay")):
        theirs = [list(group[key]) if key == "betas" else group[key] for group in groups if key in group]
        mine = [list(g[ours]) if key == "betas" else g[ours] for g in optimizer.param_groups[:1]] * len(theirs)
        table.exact(GROUP, f"optimizer's {ours.replace('_', ' ')}", mine, theirs or None)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for key, label, value in (
        ("n", "trained numbers", sum(parameter.numel() for parameter in parameters)),
        ("tensors", "trained tensors", len(parameters)),
    ):
        theirs = sum(group.get(key, 0) for group in groups)
        table.exact(GROUP, label, value, theirs or None)
    limits = {step["max_norm"] for step in run["steps"] if "max_norm" in step}
    limit = [rebuilt.config.trainer.gradient_clip_val]
    table.exact(GROUP, "largest gradient norm", limit, sorted(limits) or None)


def _check_norms(rebuilt: Rebuilt, group: str, recorded: Mapping[str, float] | None, table: Table) -> None:
    """Norms of the trained weights."""
    ours: dict[str, Tensor] = {
        reference_name(name): parameter.detach() for name, parameter in rebuilt.editor.named_parameters()
    }
    for part, theirs in (recorded or {}).items():
        table.compare(group, f"norm of the trained {part}", part_norm(ours, part), theirs)


@contextmanager
def _quiet() -> Iterator[None]:
    """No advice from Lightning about loaders and hardware."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
