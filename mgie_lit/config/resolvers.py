"""OmegaConf resolvers: directory names that no other run has, and batches per optimizer step."""

from __future__ import annotations

import itertools
from datetime import datetime
from pathlib import Path

from omegaconf import OmegaConf

from mgie_lit.errors import ConfigError

_TIME_FORMAT = "%Y-%m-%d_%H-%M-%S"
_NAMED: dict[tuple[str, str], Path] = {}  # (root, kind) -> the name given out since `forget_directories`


def register_resolvers() -> None:
    """Make ``${mgie.new_dir:...}`` and ``${mgie.accumulation:...}`` known to OmegaConf; safe to call again.

    See `new_directory` and `accumulated_batches`.
    """
    OmegaConf.register_new_resolver("mgie.new_dir", lambda root, kind: str(new_directory(root, kind)), replace=True)
    OmegaConf.register_new_resolver("mgie.accumulation", accumulated_batches, replace=True)


def accumulated_batches(
    effective_batch_size: int | None, batch_size: int, devices: int | str, num_nodes: int | str
) -> int:
    """Batches that each process puts into an optimizer step.

    Args:
        effective_batch_size: Examples per optimizer step over all processes; None = one batch of each process.
        batch_size: Examples of a batch.
        devices: Processes of a machine.
        num_nodes: Machines.

    Returns:
        ``effective_batch_size / (batch_size * devices * num_nodes)``, at least 1.

    Raises:
        ConfigError: The division leaves a rest, or the number of processes is not known beforehand.
    """
    if effective_batch_size is None:
        return 1
    if not isinstance(devices, int) or not isinstance(num_nodes, int):
        raise ConfigError(
            f"effective_batch_size: expected a number of devices to divide by, got trainer.devices={devices}; give "
            "the number, or effective_batch_size=null"
        )
    step = batch_size * devices * num_nodes
    if effective_batch_size % step:
        raise ConfigError(
            f"effective_batch_size: expected a multiple of data.batch_size times the processes ({batch_size} x "
            f"{devices * num_nodes} = {step}), got {effective_batch_size}; change one of them, or "
            "effective_batch_size=null"
        )
    return effective_batch_size // step


def new_directory(root: str, kind: str) -> Path:
    """Name of a directory ``ROOT/KIND/TIME`` that does not exist; the same name until `forget_directories`.

    Only a name: nothing is made, so that a config can be printed without leaving a trace. `reserve_directory` makes it.
    """
    key = (str(root), str(kind))
    if key not in _NAMED:
        _NAMED[key] = _first_free(Path(root) / kind / datetime.now().strftime(_TIME_FORMAT))
    return _NAMED[key]


def reserve_directory(path: Path) -> bool:
    """Make a run's directory; one that `new_directory` named is moved on to a free name if it was taken meanwhile.

    Args:
        path: The directory, as the config gives it.

    Returns:
        Whether the directory was made, rather than there already.

    Raises:
        ConfigError: The directory cannot be made.
    """
    key = next((key for key, named in _NAMED.items() if named == path), None)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        while key is not None:
            try:
                _NAMED[key].mkdir()
            except FileExistsError:
                _NAMED[key] = _first_free(path)
            else:
                return True
        is_new = not path.exists()
        path.mkdir(exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"paths.run_dir: expected a directory that can be made, got {path} ({error.strerror}); "
            "choose another with paths.run_dir=<dir> or paths.root=<dir>"
        ) from error
    return is_new


def forget_directories() -> None:
    """Start anew: the next directory asked for gets a new name."""
    _NAMED.clear()


def _first_free(path: Path) -> Path:
    if not path.exists():
        return path
    numbered = (path.with_name(f"{path.name}_{count}") for count in itertools.count(2))
    return next(candidate for candidate in numbered if not candidate.exists())
