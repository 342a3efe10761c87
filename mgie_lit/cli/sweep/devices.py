"""GPUs for trials that run side by side: each gets some of its own, and gives them back however it ends."""

from __future__ import annotations

import getpass
import logging
import os
import tempfile
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout
from omegaconf import DictConfig, OmegaConf

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

LOG = logging.getLogger(__name__)
VISIBLE = "CUDA_VISIBLE_DEVICES"
LOCKS_DIR = f"mgie-devices-{getpass.getuser()}"  # in the machine's folder for temporary files: sweeps share it
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class DevicePool:
    """The GPUs that the trials of a sweep share out.

    A lease is a file lock for each device: it is let go when the process that holds it ends, however it ends, and it
    counts for all sweeps of this machine.

    Attributes:
        names: Ids as ``CUDA_VISIBLE_DEVICES`` takes them.
        folder: Where the locks lie.
    """

    names: tuple[str, ...]
    folder: Path = Path(tempfile.gettempdir()) / LOCKS_DIR

    @contextmanager
    def lease(self, count: int) -> Iterator[tuple[str, ...]]:
        """Have some devices for oneself; waits until there are enough.

        Args:
            count: How many, at most as many as there are.

        Yields:
            Their ids, the first that are free.
        """
        assert count <= len(self.names), "demand is checked before a trial begins"
        with ExitStack() as held:
            names = self._acquire(count, held)
            while names is None:
                LOG.debug("waiting for %d of the devices %s", count, ", ".join(self.names))
                time.sleep(POLL_SECONDS)
                names = self._acquire(count, held)
            yield names

    def _acquire(self, count: int, held: ExitStack) -> tuple[str, ...] | None:
        """All that are wanted, or none: a process that held some and waited for more could wait for ever."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / "pool.lock"), ExitStack() as taken:
            names: list[str] = []
            for name in self.names:
                if len(names) == count:
                    break
                try:
                    taken.enter_context(FileLock(self.folder / f"device-{_safe(name)}.lock").acquire(blocking=False))
                except Timeout:
                    continue
                names.append(name)
            if len(names) < count:
                return None
            held.push(taken.pop_all())
            return tuple(names)


def pool_for(config: DictConfig) -> DevicePool | None:
    """The devices that the trials of a sweep share.

    Args:
        config: Of any of its trials.

    Returns:
        Those of ``sweep.devices``; where that is null, all GPUs that are visible if the trainer takes GPUs; None where
        nothing is to be shared out.

    Raises:
        ConfigError: ``sweep.devices`` is no list of ids, or names one twice.
    """
    given = OmegaConf.select(config, "sweep.devices")
    if given is not None:
        names = [str(name) for name in given] if OmegaConf.is_list(given) else []
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"sweep.devices: expected a list of different ids, e.g. [0,1,2,3], or null, got {given}")
        return DevicePool(tuple(names))
    names = _visible_gpus() if _takes_gpus(config) else []
    return DevicePool(tuple(names)) if names else None


def demand(config: DictConfig, pool: DevicePool | None) -> int:
    """How many devices of the pool a trial takes.

    Args:
        config: Of the trial.
        pool: Of its sweep.

    Returns:
        ``trainer.devices``, of which ``auto`` means all; 0 where nothing is shared out.

    Raises:
        ConfigError: It wants more than there are.
    """
    if pool is None or "trainer" not in config:
        return 0
    wanted = OmegaConf.select(config, "trainer.devices")
    if wanted in {"auto", -1, "-1"}:
        return len(pool.names)
    if not isinstance(wanted, int) or wanted > len(pool.names):
        raise ConfigError(
            f"trainer.devices: expected at most the {len(pool.names)} devices that the sweep has "
            f"({', '.join(pool.names)}), got {wanted}; give it more with sweep.devices=[...]"
        )
    return wanted


@contextmanager
def only_visible(names: tuple[str, ...]) -> Iterator[None]:
    """Let processes that are started meanwhile see these devices alone; without names, those they would see anyway."""
    before = os.environ.get(VISIBLE)
    if names:
        os.environ[VISIBLE] = ",".join(names)
    try:
        yield
    finally:
        if names and before is None:
            del os.environ[VISIBLE]
        elif names and before is not None:
            os.environ[VISIBLE] = before


def _takes_gpus(config: DictConfig) -> bool:
    return OmegaConf.select(config, "trainer.accelerator") in {"auto", "gpu", "cuda"}


def _visible_gpus() -> list[str]:
    import torch  # counts without touching the GPUs

    visible = os.environ.get(VISIBLE)
    if visible is None:
        return [str(index) for index in range(torch.cuda.device_count())]
    return [name.strip() for name in visible.split(",")][: torch.cuda.device_count()]


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in name)
