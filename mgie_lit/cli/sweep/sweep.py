"""A sweep with its own directory: its trials, and who runs them."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from mgie_lit.cli.sweep import basic
from mgie_lit.cli.sweep.devices import demand, pool_for
from mgie_lit.cli.sweep.record import SweepRecord, is_swept, pin_directory
from mgie_lit.cli.sweep.task import TrialTask
from mgie_lit.cli.sweep.trials import Trials
from mgie_lit.config.override_faults import first_lines
from mgie_lit.errors import ConfigError, MGIEError
from mgie_lit.trials import TRIAL_FILE, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from hydra.core.config_loader import ConfigLoader

    from mgie_lit.cli.sweep.task import Job

MULTIRUN_FILE = "multirun.yaml"  # Hydra's name for the sweep's own config
OPTUNA_TARGET = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
SEED_BITS = 31


@dataclass(frozen=True)
class SweepRequest:
    """What was asked for.

    Attributes:
        record: What was typed, now or when the sweep began.
        loader: Of the config tree.
        first: Config of the sweep's first trial.
        job: What each trial runs.
        can_resume: Whether a directory holds a run of it that can go on.
        check: Raises where a composed config can not be used.
        resumed: Directory of a sweep to go on with; None = a new one.
    """

    record: SweepRecord
    loader: ConfigLoader
    first: DictConfig
    job: Job
    can_resume: Callable[[Path], bool]
    check: Callable[[DictConfig], None]
    resumed: Path | None = None

    @property
    def config_name(self) -> str:
        """Primary config."""
        return self.record.config_name or self.record.command


class Sweep:
    """A sweep with its own directory.

    Args:
        request: What was asked for.
        sweep_dir: Of this sweep, which nobody else uses.
    """

    def __init__(self, request: SweepRequest, sweep_dir: Path) -> None:
        self.request, self.directory = request, sweep_dir
        overrides = pin_directory(sweep_dir, request.record.overrides)
        self.config = request.loader.load_configuration(request.config_name, overrides, run_mode=RunMode.MULTIRUN)
        self.overrides = _as_typed(self.config.hydra.overrides.task)
        self.callbacks = Callbacks(self.config)
        self.failure: MGIEError | None = None  # why the sweep ended early
        pool = pool_for(self.config)

        def check(config: DictConfig) -> None:
            request.check(config)
            demand(config, pool)

        self.trials = Trials(
            loader=request.loader,
            config_name=request.config_name,
            check=check,
            sweep_dir=sweep_dir,
            hydra_overrides=_as_typed(self.config.hydra.overrides.hydra),
            shared=frozenset(text for text in self.overrides if not is_swept(text)),
        )
        self.task = TrialTask(request.job, request.can_resume, sweep_dir, os.getpid(), pool, self.trials.shared)

    def run(self) -> None:
        """Run what is left to run."""
        sweeper = self.config.hydra.sweeper
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        self.callbacks.on_multirun_start(config=self.config, config_name=self.request.config_name)
        if sweeper._target_ == basic.TARGET:
            self._run_basic()
        else:
            self.request.check(self.request.first)
            self._record()
            (self._run_optuna if sweeper._target_ == OPTUNA_TARGET else self._run_plugin)()
        self.callbacks.on_multirun_end(config=self.config, config_name=self.request.config_name)

    def records(self) -> list[TrialRecord]:
        """Of all trials that began, or could not, by number."""
        folders = {path.parent for path in self.directory.glob(f"*/{TRIAL_FILE}")}
        folders |= {one.directory for one in self.trials.known.values()}
        found = [record for folder in folders if (record := TrialRecord.read(folder))]
        return sorted(found, key=lambda record: record.number)

    def _run_basic(self) -> None:
        batches = basic.list_trials(self.config.hydra.sweeper, self.request.loader, self.overrides)
        planned = basic.plan_batches(self.trials, batches)
        everything = [one for batch in planned for one in batch]
        if all(one.fault for one in everything):
            raise ConfigError("\n".join(dict.fromkeys(str(one.fault) for one in everything)))
        self._record()
        if self.request.resumed:
            self.trials.reopen(everything)
        for one in everything:
            self.trials.refuse(one)  # told before anything runs
        self._set_launcher()
        basic.run_batches(self.trials, planned)

    def _run_optuna(self) -> None:
        from mgie_lit.cli.sweep.optuna import OptunaSweep

        sweep = OptunaSweep(self.config, self.overrides, self.trials, self.record)
        self._set_launcher()
        try:
            sweep.run()
        except MGIEError as error:
            self.failure = error

    def _run_plugin(self) -> None:
        """Another sweeper: with its own way with failures; trials that are over are not run again."""
        sweeper = Plugins.instance().instantiate_sweeper(
            config=self.config, hydra_context=self._context(), task_function=self.task
        )
        try:
            sweeper.sweep(arguments=self.overrides)
        except Exception as error:
            if not self.records():
                raise
            self.failure = MGIEError(f"the sweeper ended early: {first_lines(error)}")

    def _record(self) -> None:
        """Write down what the sweep was started with; from now on it can be continued."""
        sweeper = self.config.hydra.sweeper
        record = self.request.record
        if self.request.resumed is None:
            given = OmegaConf.select(sweeper, "sampler.seed")
            direction = sweeper.get("direction") or OmegaConf.select(self.config, "sweep.direction") or "minimize"
            record = replace(
                record,
                directory=os.getcwd(),
                direction=_check_direction(direction),
                name=self.directory.name,
                seed=secrets.randbits(SEED_BITS) if given is None else int(given),
            )
        self.record = record
        record.write(self.directory)
        OmegaConf.save(self.config, self.directory / MULTIRUN_FILE)

    def _set_launcher(self) -> None:
        self.trials.launcher = Plugins.instance().instantiate_launcher(
            config=self.config, hydra_context=self._context(), task_function=self.task
        )

    def _context(self) -> HydraContext:
        return HydraContext(config_loader=self.request.loader, callbacks=self.callbacks)


def _as_typed(overrides: ListConfig) -> list[str]:
    """Overrides with what they interpolate left as it is."""
    texts = OmegaConf.to_container(overrides, resolve=False)
    assert isinstance(texts, list)
    return [str(text) for text in texts]


def _check_direction(value: object) -> str:
    """``minimize`` or ``maximize``, from a word or a member of the plugin's enumeration."""
    name = str(getattr(value, "name", value))
    if name not in ("minimize", "maximize"):
        raise ConfigError(f"sweep.direction: expected minimize or maximize, got {value}")
    return name
