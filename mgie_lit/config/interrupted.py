"""What an interrupted training left behind."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from mgie_lit.checkpoints.integrity import TEMPORARY_SUFFIX
from mgie_lit.checkpoints.runs import CHECKPOINT_DIR
from mgie_lit.config.runs import PROCESSES_PREFIX
from mgie_lit.training.csv_logger import FILE_NAME, read_table
from mgie_lit.training.owed import Owed

_DRAFTS = (
    "images/.*.png",
    ".config-*",
    ".overrides-*",
    ".versions-*",
    "*.tmp",
    f"{CHECKPOINT_DIR}/*{TEMPORARY_SUFFIX}",
)


def is_over(config: DictConfig, checkpoint: Mapping[str, Any]) -> bool:
    """Whether the last step of ``trainer.max_steps`` is done, and all that it owed.

    Args:
        config: Of the run.
        checkpoint: Its last one.

    Returns:
        False also where only ``trainer.max_epochs`` may have ended it.
    """
    owed = Owed.read(checkpoint)
    if not 0 < int(config.trainer.get("max_steps") or -1) <= int(checkpoint["global_step"]):
        return False
    rows = read_table(Path(config.paths.run_dir) / FILE_NAME)[1]
    return owed is None or not owed.still(rows)


def last_values(run_dir: Path) -> dict[str, float]:
    """The last value of every metric in the table of a run."""
    rows = read_table(run_dir / FILE_NAME)[1]
    return {name: float(value) for row in rows for name, value in row.items()}


def clear_leftovers(run_dir: Path) -> None:
    """Remove half-written files of a training that was killed, and what its processes told each other.

    Args:
        run_dir: Locked by this process, so that nobody is writing there.
    """
    for pattern in _DRAFTS:
        for draft in run_dir.glob(pattern):
            draft.unlink(missing_ok=True)
    for folder in run_dir.glob(f"{PROCESSES_PREFIX}*"):
        if folder.name != f"{PROCESSES_PREFIX}{os.getpid()}":
            shutil.rmtree(folder, ignore_errors=True)
