"""``mgie train``: a Hydra app over ``conf/train.yaml``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = """\
usage: mgie train [OVERRIDES] [FLAGS]

Train a system from a config (conf/train.yaml). The run gets its own directory, runs/train/<time>.

examples:
  mgie train experiment=smoke
  mgie train model=mgie data=photo_edits trainer.max_steps=500 seed=1
  mgie train -m optimizer.lr=1e-4,3e-4 experiment=smoke
  mgie train resume=runs/train/<time>
"""


def run(argv: list[str]) -> None:
    """Train as ``argv``, overrides and Hydra's flags, says."""
    if HELP_FLAGS & set(argv):
        sys.stdout.write(overrides_help(HELP))
        return
    from mgie_lit.cli.hydra_app import run_hydra

    run_hydra("train", argv, _train)


def _train(config: DictConfig) -> float | None:
    from mgie_lit.cli.launch import launch
    from mgie_lit.config.run import train

    return train(config, launch)
