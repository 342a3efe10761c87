"""The Optuna sweeper: Hydra's config and search space, our loop, which goes on where a dead sweep was.

The study in the database is what was asked and told; a trial's directory is what it did. What the sampler proposes for
a trial depends on the sweep's seed, the trial's number and the trials told before, and on nothing that dies with a
process: so a sweep that was interrupted proposes what an undisturbed one does.
"""

from __future__ import annotations

import hashlib
import logging
import math
import random
from pathlib import Path
from typing import TYPE_CHECKING, Any

import optuna
from hydra.utils import instantiate
from hydra_plugins.hydra_optuna_sweeper._impl import OptunaSweeperImpl, create_params_from_overrides
from omegaconf import DictConfig, OmegaConf
from optuna.trial import Trial, TrialState

from mgie_lit.errors import ConfigError, MGIEError
from mgie_lit.trials import FINISHED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from optuna.distributions import BaseDistribution

    from mgie_lit.cli.sweep.record import SweepRecord
    from mgie_lit.cli.sweep.trials import Trials
    from mgie_lit.trials import TrialRecord

LOG = logging.getLogger(__name__)
RESULTS_FILE = "optimization_results.yaml"
NUMBER_KEY, SWEEP_KEY = (
    "mgie_trial",
    "mgie_sweep",
)  # attributes of a trial in the study: its number here, and of which sweep
_NUM_SEEDS = 2**32  # numpy's


class OptunaSweep:
    """A study, and the trials that it asks for.

    Args:
        config: The sweep's, with ``hydra.sweeper``.
        overrides: As typed, without Hydra's own.
        trials: Runs them.
        record: Of the sweep, with direction and seed.

    Raises:
        ConfigError: There is no search space that Optuna can draw from.
    """

    def __init__(self, config: DictConfig, overrides: Sequence[str], trials: Trials, record: SweepRecord) -> None:
        self.config, self.trials, self.seed, self.name = config, trials, record.seed, record.name
        self.node = config.hydra.sweeper
        self.num_trials, self.batch_size = int(self.node.n_trials), int(self.node.n_jobs)
        self.plugin = self._plugin()
        self.space, self.fixed = self._search_space(overrides)
        self.grid = self._grid()
        if self.grid:
            self.num_trials = min(self.num_trials, math.prod(len(values) for values in self.grid.values()))
        self.study = optuna.create_study(
            study_name=self.node.study_name,
            storage=self.node.storage,
            direction=record.direction,
            load_if_exists=True,
        )

    def run(self) -> None:
        """Ask for trials, run them and tell what came out, until there are as many as wanted.

        Raises:
            MGIEError: More trials of a batch failed than ``hydra.sweeper.max_failure_rate`` allows.
        """
        while batch := self._next_batch():
            overrides = [self._suggest(trial) for trial in batch]
            first = batch[0].user_attrs[NUMBER_KEY]
            records = self.trials.run(self.trials.plan(overrides, first))
            if self.trials.is_stopping:
                self._tell([pair for pair in zip(batch, records, strict=True) if pair[1] and pair[1].is_over])
                return
            num_failed = self._tell(list(zip(batch, records, strict=True)))
            self._save_results()
            if num_failed > self.node.max_failure_rate * len(batch):
                raise MGIEError(
                    f"hydra.sweeper.max_failure_rate: expected at most {self.node.max_failure_rate:g} of the trials "
                    f"that run at once to fail, {num_failed} of {len(batch)} did; the sweep ends"
                )

    def _next_batch(self) -> list[Trial]:
        """Trials that were asked for and not told, and new ones up to the next multiple of the batch's size.

        An undisturbed sweep draws its batches at the same numbers, so that each sampler's draw knows the same results.
        """
        own = self._own_trials()
        batch = [Trial(self.study, one._trial_id) for one in own if not one.state.is_finished()]
        number = len(own)
        while number < self.num_trials and (number % self.batch_size or not batch):
            batch.append(self._ask(number))
            number += 1
        return batch

    def _own_trials(self) -> list[optuna.trial.FrozenTrial]:
        """Trials of this sweep, by number; a study in a database of the user's may have others too."""
        everything = self.study.get_trials(deepcopy=False)
        own = [one for one in everything if one.user_attrs.get(SWEEP_KEY) == self.name]
        return sorted(own, key=lambda one: int(one.user_attrs[NUMBER_KEY]))

    def _ask(self, number: int) -> Trial:
        seed = _seed_of(self.seed, number)
        random.seed(seed)  # the grid sampler draws from it
        self.study.sampler = self._sampler(seed)
        trial = self.study.ask()
        trial.set_user_attr(NUMBER_KEY, number)
        trial.set_user_attr(SWEEP_KEY, self.name)  # last: only now it is one of ours
        return trial

    def _suggest(self, trial: Trial) -> list[str]:
        """Overrides of a trial; what was suggested before it died is suggested again."""
        for name, distribution in self.space.items():
            trial._suggest(name, distribution)
        if self.plugin.custom_search_space_extender:
            self.plugin.custom_search_space_extender(self.config, trial)
        return [*(f"{name}={_as_override(value)}" for name, value in trial.params.items()), *self.fixed]

    def _tell(self, results: Sequence[tuple[Trial, TrialRecord | None]]) -> int:
        """Give the study what came out.

        Returns:
            How many trials failed.
        """
        num_failed = 0
        for trial, record in results:
            value = None if record is None else record.value
            state = TrialState.FAIL if value is None else TrialState.COMPLETE
            if record is not None and record.state == FINISHED and value is None:
                self.trials.fail(record)
            try:
                self.study.tell(trial, value, state)
            except RuntimeError as error:  # the grid sampler wants to stop a loop that is not optuna's
                if "Study.stop" not in str(error):
                    raise
            num_failed += value is None
        return num_failed

    def _plugin(self) -> OptunaSweeperImpl:
        """The plugin's reading of its own config."""
        given = {key: self.node.get(key) for key in ("search_space", "custom_search_space", "params")}
        names = ("direction", "storage", "study_name", "n_trials", "n_jobs", "max_failure_rate")
        plugin = OptunaSweeperImpl(sampler=None, **{name: self.node[name] for name in names}, **given)
        plugin._process_searchspace_config()
        return plugin

    def _search_space(self, overrides: Sequence[str]) -> tuple[dict[str, BaseDistribution], list[str]]:
        """Keys that are drawn, and overrides that all trials share; a fixed one wins over ``params``."""
        texts = [*self.plugin._parse_sweeper_params_config(), *overrides]
        drawn: dict[str, BaseDistribution] = dict(self.plugin.search_space_distributions or {})
        fixed: dict[str, str] = {}
        for text in texts:
            distributions, values = create_params_from_overrides([text])
            drawn |= distributions
            fixed |= dict.fromkeys(values, text)
        drawn = {name: one for name, one in drawn.items() if name not in fixed}
        if not drawn and not self.plugin.custom_search_space_extender:
            raise ConfigError(
                "hydra/sweeper=optuna: expected something to draw from, e.g. optimizer.lr=interval(1e-5,1e-3) or "
                "model=mgie,lgie; got none"
            )
        return drawn, list(fixed.values())

    def _grid(self) -> dict[str, Any]:
        """Values of each key for the grid sampler; empty for others."""
        if not self.node.sampler.get("_partial_"):
            return {}
        return {name: self.plugin._to_grid_sampler_choices(one) for name, one in self.space.items()}

    def _sampler(self, seed: int) -> Any:  # noqa: ANN401 - one of optuna's
        sampler = instantiate(self.node.sampler, **({"seed": seed} if "seed" in self.node.sampler else {}))
        return sampler(self.grid) if self.grid else sampler

    def _save_results(self) -> None:
        """The plugin's own summary."""
        complete = [(one.value, one) for one in self._own_trials() if one.value is not None]
        if not complete:
            return
        choose = max if self.study.direction == optuna.study.StudyDirection.MAXIMIZE else min
        value, best = choose(complete, key=lambda pair: pair[0])
        content = {"name": "optuna", "best_params": best.params, "best_value": value}
        OmegaConf.save(OmegaConf.create(content), Path(self.trials.sweep_dir) / RESULTS_FILE)


def _seed_of(seed: int, number: int) -> int:
    """A seed of its own for the draws of each trial."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:8], "big") % _NUM_SEEDS


def _as_override(value: Any) -> str:  # noqa: ANN401 - whatever was drawn
    return "null" if value is None else str(value)
