"""The config of a run that goes on: its own, with what was typed beside ``resume`` on top."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from mgie_lit.config.changes import ALLOW, check_changes, share_again
from mgie_lit.config.nearest import did_you_mean
from mgie_lit.config.override_faults import dotted_keys
from mgie_lit.config.runs import CONFIG_FILE, OVERRIDES_FILE, read_run_config
from mgie_lit.config.validate import validate_config
from mgie_lit.errors import ConfigError

RESUMES_FILE = "resumes.jsonl"  # what was typed each time a training was resumed


def resumed_config(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Config of an interrupted run.

    Args:
        config: As composed now; only its ``resume`` is read.
        overrides: What was typed. ``key=value`` changes a value; other kinds (choosing another part, adding, deleting,
            sweeping) are passed over where the run was started with them, and refused else.

    Returns:
        The run's own config, with what was changed when it was resumed before, and the changed values.

    Raises:
        CheckpointError: ``resume`` is not a run directory.
        ConfigError: An override can not be applied to a run; the message names all of them.
    """
    run_dir = Path(config.resume)
    stored = _as_trained(run_dir)
    recorded = set(_recorded(run_dir))
    faults = [fault for text in overrides if (fault := _apply(stored, text, recorded))]
    if faults:
        raise ConfigError("\n".join(faults))
    validate_config(stored)
    return stored


def resumed_training(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Config of an interrupted training, which goes on as the one that it was.

    Args:
        config: As composed now; its ``resume`` and ``resume_allow`` are read.
        overrides: What was typed.

    Returns:
        As `resumed_config`; batches of an optimizer step are counted anew where it is shared differently.

    Raises:
        CheckpointError: ``resume`` is not a run directory.
        ConfigError: What was typed can not be applied, or would make it another training (``config.changes``).
    """
    resumed = resumed_config(config, overrides)
    check_changes(_as_trained(Path(config.resume)), resumed, config.get(ALLOW) or [])
    return resumed


def requeued_run(root: Path, overrides: Sequence[str]) -> Path | None:
    """The run that a Slurm job goes on with when it has been put back into the queue.

    Args:
        root: Where notes of jobs are kept (`SlurmRequeue`).
        overrides: What was typed; a job may train several times, each goes on with its own run.

    Returns:
        Its directory; None outside such a job, or where it had not begun this training.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None:
        return None
    from mgie_lit.training.callbacks.requeue import note_of  # brings Lightning

    note = note_of(root, job)
    if not note.is_file():
        return None
    runs = [Path(line) for line in note.read_text(encoding="utf-8").splitlines()]
    return next((run for run in reversed(runs) if _recorded(run) == list(overrides)), None)


def record_resume(run_dir: Path, overrides: Sequence[str], step: int) -> None:
    """Add a line about a resume to the run.

    Args:
        run_dir: Of the run.
        overrides: What was typed; the next resume goes on with it.
        step: Of the checkpoint; 0 = from the beginning.
    """
    since = datetime.now().isoformat(sep=" ", timespec="seconds")
    line = json.dumps({"time": since, "step": step, "overrides": list(overrides)}, ensure_ascii=False)
    with (run_dir / RESUMES_FILE).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def _as_trained(run_dir: Path) -> DictConfig:
    stored = read_run_config(run_dir, needed=(CONFIG_FILE,))
    recorded = set(_recorded(run_dir))
    for resume in _resumes(run_dir):
        before = stored.copy()
        for text in resume:
            _apply(stored, text, recorded)
        share_again(before, stored)
    _move(stored, run_dir)
    return stored


def _move(config: DictConfig, run_dir: Path) -> None:
    """Let all paths below the run's directory follow it to where it lies now."""
    before, now = str(config.paths.run_dir), str(run_dir)
    for key in list(dotted_keys(config)):
        value = OmegaConf.select(config, key)
        if isinstance(value, str) and (value == before or value.startswith(f"{before}/")):
            OmegaConf.update(config, key, now + value.removeprefix(before))


def _recorded(run_dir: Path) -> list[str]:
    """Overrides that the run was started with; none where it was killed before they were written."""
    path = run_dir / OVERRIDES_FILE
    return list(yaml.safe_load(path.read_text(encoding="utf-8")) or []) if path.is_file() else []


def _resumes(run_dir: Path) -> list[list[str]]:
    path = run_dir / RESUMES_FILE
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    return [json.loads(line)["overrides"] for line in lines if line.endswith("\n")]


def _apply(config: DictConfig, text: str, recorded: set[str]) -> str | None:
    """Change one value in place; what is wrong, or None."""
    override = OverridesParser.create().parse_override(text)
    key = str(override.key_or_group)
    if key in ("resume", ALLOW):
        return None
    plain = not (override.is_add() or override.is_delete() or override.is_sweep_override())
    if not plain or isinstance(OmegaConf.select(config, key), DictConfig):
        if text in recorded:
            return None
        return f"{text}: expected key=value beside resume=, the parts of a run can not be exchanged; start a new run"
    known = list(dotted_keys(config))
    if key not in known:
        return None if text in recorded else f"{text}: no such key in the run's config{did_you_mean(key, known)}"
    if key != "paths.run_dir":
        OmegaConf.update(config, key, override.value())
    return None
