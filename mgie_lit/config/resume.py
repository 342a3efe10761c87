"""The config of a run that goes on: its own, with what was typed beside ``resume`` on top."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig, OmegaConf

from mgie_lit.config.nearest import did_you_mean
from mgie_lit.config.override_faults import dotted_keys
from mgie_lit.config.runs import OVERRIDES_FILE, read_run_config
from mgie_lit.config.validate import validate_config
from mgie_lit.errors import ConfigError


def resumed_config(config: DictConfig, overrides: Sequence[str]) -> DictConfig:
    """Config of an interrupted run.

    Args:
        config: As composed now; only its ``resume`` is read.
        overrides: What was typed. Those that the run was started with are passed over; ``key=value`` changes a value;
            other kinds (choosing another part, adding, deleting, sweeping) are refused.

    Returns:
        The run's own config with the changed values.

    Raises:
        CheckpointError: ``resume`` is not a run directory.
        ConfigError: An override can not be applied to a run; the message names all of them.
    """
    run_dir = Path(config.resume)
    stored = read_run_config(run_dir)
    recorded = set(yaml.safe_load((run_dir / OVERRIDES_FILE).read_text()) or [])
    faults = [fault for text in overrides if text not in recorded and (fault := _apply(stored, text))]
    if faults:
        raise ConfigError("\n".join(faults))
    stored.paths.run_dir = str(run_dir)
    validate_config(stored)
    return stored


def _apply(config: DictConfig, text: str) -> str | None:
    """Change one value in place; what is wrong, or None."""
    override = OverridesParser.create().parse_override(text)
    key = str(override.key_or_group)
    if key == "resume":
        return None
    plain = not (override.is_add() or override.is_delete() or override.is_sweep_override())
    if not plain or isinstance(OmegaConf.select(config, key), DictConfig):
        return f"{text}: expected key=value beside resume=, the parts of a run can not be exchanged; start a new run"
    known = list(dotted_keys(config))
    if key not in known:
        return f"{text}: no such key in the run's config{did_you_mean(key, known)}"
    OmegaConf.update(config, key, override.value())
    return None
