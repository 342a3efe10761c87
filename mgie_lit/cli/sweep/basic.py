"""Hydra's basic sweeper: a fixed list of trials, every combination of the values given."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hydra.core.config_loader import ConfigLoader
    from omegaconf import DictConfig

    from mgie_lit.cli.sweep.trials import Planned, Trials

TARGET = "hydra._internal.core_plugins.basic_sweeper.BasicSweeper"


def list_trials(sweeper: DictConfig, loader: ConfigLoader, overrides: Sequence[str]) -> list[list[list[str]]]:
    """All trials of a sweep.

    Args:
        sweeper: ``hydra.sweeper``.
        loader: Of the config tree.
        overrides: As typed, without Hydra's own.

    Returns:
        Overrides of every trial, in batches of ``hydra.sweeper.max_batch_size``.

    Raises:
        ConfigError: One of them has values that can not be listed.
    """
    texts = [f"{key}={value}" for key, value in (sweeper.params or {}).items()] + list(overrides)
    parsed = OverridesParser.create(config_loader=loader).parse_overrides(texts)
    try:
        return BasicSweeper.split_arguments(parsed, sweeper.max_batch_size)
    except HydraException as error:
        intervals = ", ".join(str(one.input_line) for one in parsed if one.is_interval_sweep())
        raise ConfigError(
            f"{intervals}: expected values that can be listed, the basic sweeper can not draw from an interval; "
            "take hydra/sweeper=optuna, or give the values as a,b,c"
        ) from error


def plan_batches(trials: Trials, batches: Sequence[Sequence[Sequence[str]]]) -> list[list[Planned]]:
    """Compose and check all trials."""
    starts = itertools.accumulate((len(batch) for batch in batches), initial=0)
    return [trials.plan(batch, first) for batch, first in zip(batches, starts, strict=False)]


def run_batches(trials: Trials, batches: Sequence[Sequence[Planned]]) -> None:
    """Run all trials; none stops another."""
    for batch in batches:
        if trials.is_stopping:
            return
        trials.run(batch)
