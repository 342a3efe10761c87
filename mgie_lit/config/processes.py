"""Whether another launcher, torchrun or Slurm's srun, has started the processes of a training."""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lightning.fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from omegaconf import DictConfig

LOG = logging.getLogger(__name__)
TORCHRUN, SLURM = "torchrun", "srun"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of this process among those that a launcher has started on one or several machines."""

    launcher: str
    rank: int  # from 0, over all machines
    world_size: int

    @classmethod
    def find(cls, environ: Mapping[str, str] = os.environ) -> Self | None:
        """Read it from the environment.

        Args:
            environ: Of the process.

        Returns:
            None where no launcher, or one for a single process, was at work. ``SLURM_*`` variables alone do not count:
            a batch script has them, too. A step that ``srun`` started has ``SLURM_STEP_NUM_TASKS``.
        """
        if "TORCHELASTIC_RUN_ID" in environ:
            place = cls(TORCHRUN, int(environ["RANK"]), int(environ["WORLD_SIZE"]))
        elif "SLURM_STEP_NUM_TASKS" in environ and "SLURM_PROCID" in environ:
            place = cls(SLURM, int(environ["SLURM_PROCID"]), int(environ["SLURM_STEP_NUM_TASKS"]))
        else:
            return None
        return place if place.world_size > 1 else None

    def check(self, config: DictConfig) -> None:
        """Make sure that a training is meant for as many processes as there are.

        Args:
            config: Of the training.

        Raises:
            ConfigError: It is not.
        """
        devices, nodes = config.trainer.devices, config.trainer.get("num_nodes") or 1
        if not isinstance(devices, int) or devices * nodes != self.world_size:
            raise ConfigError(
                f"trainer.devices, trainer.num_nodes: expected processes of a machine times machines to be the "
                f"{self.world_size} that {self.launcher} has started, got {devices} x {nodes}; give both, e.g. "
                f"trainer.devices={self.world_size // nodes or 1}"
            )


def check_alone(config: DictConfig) -> None:
    """Make sure that a training that starts its own processes is meant for one machine.

    Args:
        config: Of the training.

    Raises:
        ConfigError: It is meant for several.
    """
    nodes = config.trainer.get("num_nodes") or 1
    if nodes > 1:
        raise ConfigError(
            f"trainer.num_nodes: expected 1 where no launcher has started the processes of all machines, got {nodes}; "
            "start it with torchrun or srun on each of them (docs/training.md#several-machines)"
        )


def check_sharded(config: DictConfig) -> None:
    """Say of a training whose weights are spread over processes what is not known of it, and refuse what can not work.

    Args:
        config: Of the training; others pass.

    Raises:
        ConfigError: A callback needs whole weights.
    """
    strategy = config.trainer.get("strategy")
    if not str(strategy.get("_target_") if hasattr(strategy, "get") else strategy).endswith("ModelParallelStrategy"):
        return
    guard = config.callbacks.get("non_finite")
    for key, is_used in (
        ("callbacks.ema", config.callbacks.get("ema") is not None),
        ("callbacks.non_finite.action=rollback", guard is not None and guard.action == "rollback"),
    ):
        if is_used:
            raise ConfigError(f"{key}: expected whole weights in each process, got trainer=fsdp; leave it out")
    LOG.warning(
        "trainer=fsdp is experimental: its units are tested on CPUs, but it has not run on GPUs; compare the first "
        "losses with trainer=ddp, and try resume= before a long training"
    )


def cluster_environment() -> ClusterEnvironment:
    """What tells Lightning this process's place: the launcher's variables, or those of our own launcher."""
    from lightning.fabric.plugins.environments.lightning import LightningEnvironment
    from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
    from lightning.fabric.plugins.environments.torchelastic import TorchElasticEnvironment

    place = Place.find()
    if place is None:
        return LightningEnvironment()  # Lightning would take a Slurm job's variables for its processes'
    return TorchElasticEnvironment() if place.launcher == TORCHRUN else SLURMEnvironment(auto_requeue=False)
