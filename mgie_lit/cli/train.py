"""``mgie train``: a Hydra app over ``conf/train.yaml``."""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

    from mgie_lit.cli.outer import Group

HELP = """\
usage: mgie train [OVERRIDES] [FLAGS]

Train a system from a config (conf/train.yaml). The run gets its own directory, runs/train/<time>.

examples:
  mgie train experiment=smoke
  mgie train model=mgie data=photo_edits trainer.max_steps=500 seed=1
  mgie train -m optimizer.lr=1e-4,3e-4 experiment=smoke
  mgie train resume=runs/train/<time>
  mgie train -m sweep.resume=runs/multirun/<time>
"""


def run(argv: list[str]) -> None:
    """Train as ``argv``, overrides and Hydra's flags, says."""
    if HELP_FLAGS & set(argv):
        sys.stdout.write(overrides_help(HELP))
        return
    from mgie_lit.cli.hydra_app import run_hydra
    from mgie_lit.config.processes import Place

    place = Place.find()
    if place is None:
        run_hydra("train", argv, _train, trial_job=_train_apart, can_resume=_can_resume)
        return
    from mgie_lit.cli.outer import train_together

    train_together(argv, place, lambda group: run_hydra("train", argv, partial(_train_with, group)))


def _train(config: DictConfig) -> float | None:
    from mgie_lit.cli.launch import launch
    from mgie_lit.config.run import train

    return train(config, launch)


def _train_with(group: Group, config: DictConfig) -> float | None:
    """Train in the processes that another launcher has started."""
    from mgie_lit.config.run import train

    return train(config, group.lead, apart=True)


def _train_apart(config: DictConfig) -> float | None:
    """Train in processes of its own, also if it is one: a trial of a sweep leaves nothing behind for the next."""
    from mgie_lit.cli.launch import launch
    from mgie_lit.config.run import train

    return train(config, launch, apart=True)


def _can_resume(run_dir: Path) -> bool:
    """Whether a directory holds a training that was recorded and has a checkpoint that is whole."""
    from mgie_lit.checkpoints.runs import find_checkpoint
    from mgie_lit.config.runs import is_recorded
    from mgie_lit.errors import CheckpointError

    try:
        return is_recorded(run_dir) and find_checkpoint(run_dir).is_file()
    except CheckpointError:
        return False
