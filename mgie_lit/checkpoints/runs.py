"""Finding and reading the checkpoints of a training run."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mgie_lit.checkpoints.frozen import FROZEN_KEY, check_frozen, frozen_parts
from mgie_lit.checkpoints.integrity import digest_path, is_whole
from mgie_lit.checkpoints.torch_files import READ_ERRORS
from mgie_lit.errors import CheckpointError, ConfigError

LOG = logging.getLogger(__name__)
_STEP = re.compile(r"step[-=]?(\d+)")  # in the name of a checkpoint
SUFFIX = ".ckpt"
CHECKPOINT_DIR = "checkpoints"
CONFIG_KEY = "mgie_config"
EMA_KEY = "mgie_ema"  # in a checkpoint: moving average of what trains, where the run has one
WANDB_KEY = "mgie_wandb_id"  # in a checkpoint: wandb's run, where the training has one
EDITOR_PREFIX = "editor."
EMA, RAW = "ema", "raw"  # which weights of a checkpoint: the moving average of what trained, or what the optimizer left


def find_checkpoint(path: Path) -> Path:
    """The checkpoint file that ``path`` means: itself, or the newest one of a run directory.

    Args:
        path: A ``.ckpt`` file, or a run directory with ``checkpoints/*.ckpt``.

    Returns:
        The file; of several that of the last step, or the one written last where names do not say the step. Links are
        left out, and, with a warning, damaged ones too.

    Raises:
        CheckpointError: There is none, or none that is whole; the message says what was looked for.
    """
    if path.is_file():
        if not is_whole(path):
            raise CheckpointError(
                f"{path}: expected the file as it was written, its hash is another one than in "
                f"{digest_path(path).name}; use an earlier checkpoint"
            )
        return path
    candidates = [file for file in (path / CHECKPOINT_DIR).glob(f"*{SUFFIX}") if not file.is_symlink()]
    if not candidates:
        raise CheckpointError(
            f"{path}: expected a {SUFFIX} file or a run directory with {CHECKPOINT_DIR}/*{SUFFIX}, found "
            f"{'a folder without one' if path.is_dir() else 'nothing'}"
        )
    newest_first = _newest_first(candidates)
    for file in newest_first:
        if is_whole(file):
            return file
        LOG.warning("%s is damaged (its hash is another one than when it was written); using an earlier one", file)
    raise CheckpointError(
        f"{path}: expected a whole checkpoint, all {len(newest_first)} in {CHECKPOINT_DIR} are damaged: "
        f"{', '.join(file.name for file in newest_first[:5])}"
    )


def _newest_first(files: list[Path]) -> list[Path]:
    steps = [_STEP.search(file.name) for file in files]
    if all(steps):  # times of a run that was copied say nothing
        by_step = {file: int(found[1]) for file, found in zip(files, steps, strict=True) if found}
        return sorted(files, key=lambda file: (by_step[file], file.name), reverse=True)
    return sorted(files, key=lambda file: (file.stat().st_mtime_ns, file.name), reverse=True)


def has_checkpoints(run_dir: Path) -> bool:
    """Whether a run has written a checkpoint, damaged or not."""
    return any((run_dir / CHECKPOINT_DIR).glob(f"*{SUFFIX}"))


def checkpoint_step(path: Path | None) -> int:
    """Optimizer steps that a checkpoint has done; 0 without one."""
    return 0 if path is None else int(load_checkpoint(path)["global_step"])


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Content of a checkpoint file of ours, on the CPU; nothing in it is executed, tensors are read when used.

    Args:
        path: A ``.ckpt`` file.

    Returns:
        Lightning's checkpoint, with at least ``state_dict``, ``global_step`` and ``mgie_config``.

    Raises:
        CheckpointError: The file is damaged, holds pickled objects, or was not written by a training run of ours.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except READ_ERRORS as error:
        first_line = str(error).strip().split("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: expected a checkpoint of a training run, can not read it: {first_line}"
        ) from error
    if not isinstance(content, dict) or not {"state_dict", "global_step", CONFIG_KEY} <= content.keys():
        raise CheckpointError(
            f"{path}: expected a checkpoint that `mgie train` wrote (state_dict, global_step, {CONFIG_KEY}), got "
            f"{', '.join(list(content)[:5]) if isinstance(content, dict) else type(content).__name__}"
        )
    return content


def chosen_weights(checkpoint: Mapping[str, Any], weights: str) -> str:
    """Which weights a choice stands for: ``ema`` where the checkpoint has an average, else ``raw``.

    Args:
        checkpoint: As `load_checkpoint` gives it.
        weights: ``ema`` or ``raw``.

    Returns:
        ``ema`` or ``raw``.

    Raises:
        ConfigError: The choice is another one.
    """
    if weights not in (EMA, RAW):
        raise ConfigError(f"weights: expected {EMA} or {RAW}, got {weights!r}")
    has_average = bool((checkpoint.get(EMA_KEY) or {}).get("num_updates"))
    return EMA if weights == EMA and has_average else RAW


def load_editor_weights(
    editor: nn.Module, checkpoint: Mapping[str, Any], path: Path, *, sources: Mapping[str, str], weights: str = EMA
) -> None:
    """Put a checkpoint's weights into an editor of the same config.

    Args:
        editor: Changed in place; nothing is changed where this raises. Its frozen parts are loaded from ``sources``.
        checkpoint: As ``load_checkpoint`` gives it; in its ``state_dict`` names begin with ``editor.``.
        path: Where the checkpoint comes from, for the message.
        sources: Name prefix of a part -> folder that its frozen weights were loaded from.
        weights: See `chosen_weights`.

    Raises:
        CheckpointError: Keys or shapes differ, or frozen weights are not those of the training; the message names some.
    """
    stored = {name.removeprefix(EDITOR_PREFIX) for name in checkpoint["state_dict"]}
    parts = frozen_parts(editor, sources, stored=stored) if checkpoint.get(FROZEN_KEY) else {}
    check_frozen(checkpoint.get(FROZEN_KEY) or {}, parts, path)
    state = dict(checkpoint["state_dict"])
    if chosen_weights(checkpoint, weights) == EMA:
        state |= {EDITOR_PREFIX + name: value for name, value in checkpoint[EMA_KEY]["weights"].items()}
    load_trained(editor, state, path, left_out={name for part in parts.values() for name in part.names})


def load_trained(
    editor: nn.Module, state_dict: Mapping[str, Tensor], path: Path | str, *, left_out: Collection[str]
) -> None:
    """Load what a checkpoint holds; exactly the frozen weights that were left out may be missing.

    Args:
        editor: Changed in place; nothing is changed where this raises.
        state_dict: Names begin with ``editor.``.
        path: Where the weights come from, for the message.
        left_out: Names of the editor's parameters that are not in ``state_dict``.

    Raises:
        CheckpointError: Keys or shapes differ; the message names some.
    """
    weights = {key.removeprefix(EDITOR_PREFIX): value for key, value in state_dict.items()}
    expected = {name: value for name, value in editor.state_dict().items() if name not in left_out}
    faults = [f"missing {key}" for key in expected if key not in weights]
    faults += [f"unexpected {key}" for key in weights if key not in expected]
    faults += [
        f"{key} has shape {tuple(weights[key].shape)} instead of {tuple(value.shape)}"
        for key, value in expected.items()
        if key in weights and weights[key].shape != value.shape
    ]
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise CheckpointError(f"{path}: the weights do not fit the config: {'; '.join(faults[:3])}{more}")
    editor.load_state_dict(weights, strict=False)
