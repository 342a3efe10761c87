"""A sweep from what was typed to its table."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.types import HydraContext, RunMode
from omegaconf import DictConfig, ListConfig, OmegaConf

from mgie_lit.cli.launch import IMPATIENCE_SECONDS
from mgie_lit.cli.sweep import basic
from mgie_lit.cli.sweep.devices import demand, pool_for
from mgie_lit.cli.sweep.record import DIRECTORY_KEY, RESUME_KEY, SweepRecord, is_swept, key_of, pin_directory
from mgie_lit.cli.sweep.table import print_table
from mgie_lit.cli.sweep.task import STOP_FILE, TrialTask, stop, title
from mgie_lit.cli.sweep.trials import Trials
from mgie_lit.config.lock import locked
from mgie_lit.config.override_faults import first_lines
from mgie_lit.config.resolvers import reserve_directory
from mgie_lit.errors import ConfigError, MGIEError
from mgie_lit.trials import FINISHED, SWEEP_FILE, TRIAL_FILE, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hydra.core.config_loader import ConfigLoader

    from mgie_lit.cli.sweep.task import Job

MULTIRUN_FILE = "multirun.yaml"  # Hydra's name for the sweep's own config
OPTUNA_TARGET = "hydra_plugins.hydra_optuna_sweeper.optuna_sweeper.OptunaSweeper"
SEED_BITS = 31
SOME_FAILED = 1  # exit status, unless the user can repair all of it


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


def run_sweep(request: SweepRequest) -> None:
    """Run all trials, each in a directory of its own; print their table and the sweep's directory.

    Args:
        request: What was asked for.

    Raises:
        ConfigError: Nothing can run: the message has the faults.
        MGIEError: Trials failed for reasons that the user can repair.
        SystemExit: Trials failed otherwise, or the sweep was asked to end.
    """
    if any(key_of(text) == "paths.run_dir" for text in request.record.overrides):
        raise ConfigError(
            "paths.run_dir: every trial of a sweep has its own directory, got one for all; "
            "set the sweep's directory with hydra.sweep.dir=<dir>"
        )
    is_new, sweep_dir = _claim_directory(request)
    try:
        with locked(sweep_dir, option=RESUME_KEY if request.resumed else DIRECTORY_KEY):
            sweep = _Sweep(request, sweep_dir)
            signum = _run_until_stopped(sweep)
    finally:
        if is_new and not any(sweep_dir.iterdir()):
            sweep_dir.rmdir()  # nothing could run
    print_table(sweep_dir)
    print(sweep_dir, flush=True)
    _raise_outcome(sweep, signum)


class _Sweep:
    """A sweep with its own directory."""

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
                direction=check_direction(direction),
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


def check_direction(value: object) -> str:
    """A direction of optimization.

    Args:
        value: A word, or a member of the plugin's enumeration.

    Returns:
        ``minimize`` or ``maximize``.

    Raises:
        ConfigError: It is neither.
    """
    name = str(getattr(value, "name", value))
    if name not in ("minimize", "maximize"):
        raise ConfigError(f"sweep.direction: expected minimize or maximize, got {value}")
    return name


def resume_request(overrides: Sequence[str]) -> Path | None:
    """The directory that ``sweep.resume`` names; None where it is not typed, or null."""
    values = [text.partition("=")[2].strip("\"'") for text in overrides if key_of(text) == RESUME_KEY]
    return Path(values[-1]) if values and values[-1] not in ("", "null") else None


def _claim_directory(request: SweepRequest) -> tuple[bool, Path]:
    """Whether the sweep's directory was made, and which it is."""
    if request.resumed is not None:
        return False, request.resumed.absolute()
    is_new = reserve_directory(Path(str(request.first.hydra.sweep.dir)))
    sweep_dir = Path(str(request.first.hydra.sweep.dir))  # the reserved name, where the first was taken
    if (sweep_dir / SWEEP_FILE).exists():
        raise ConfigError(
            f"{DIRECTORY_KEY}: expected a directory without a sweep, but {sweep_dir} holds one; continue it with "
            f"{RESUME_KEY}={sweep_dir}, or choose another"
        )
    return is_new, sweep_dir.absolute()


def _run_until_stopped(sweep: _Sweep) -> int | None:
    """Run a sweep; the signal that ended it, or None."""
    stop_file = sweep.directory / STOP_FILE
    stop_file.unlink(missing_ok=True)
    try:
        with _stops_on_signals(sweep):
            sweep.run()
        return int(stop_file.read_text(encoding="utf-8")) if stop_file.exists() else None
    finally:
        stop_file.unlink(missing_ok=True)


@contextlib.contextmanager
def _stops_on_signals(sweep: _Sweep) -> Iterator[None]:
    """On SIGTERM or Ctrl-C let no trial begin, and tell those that other processes look after to end.

    A trial of this process has taken the signal over while it runs.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    first = 0.0

    def handle(signum: int, frame: object) -> None:
        nonlocal first
        if signum == signal.SIGINT and first and time.monotonic() - first > IMPATIENCE_SECONDS:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        stop(sweep.directory, signum)
        for record in sweep.records():
            if record.is_alive and record.pid != os.getpid():
                os.kill(record.pid, signal.SIGTERM)

    before = {signum: signal.signal(signum, handle) for signum in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _raise_outcome(sweep: _Sweep, signum: int | None) -> None:
    """End as the sweep did: well, with what the user can repair, or with an exit status alone."""
    records = sweep.records()
    if signum is not None:
        sys.stderr.write(f"the sweep was asked to end; go on with {RESUME_KEY}={sweep.directory}\n")
        if signum == signal.SIGINT:
            raise KeyboardInterrupt
        raise SystemExit(128 + signum)
    if sweep.failure is not None:
        raise sweep.failure
    bad = [record for record in records if record.state != FINISHED]
    if not bad:
        return
    head = f"{len(bad)} of {len(records)} trials of the sweep failed:"
    if all(record.is_user_fault for record in bad):
        raise MGIEError("\n".join([head, *dict.fromkeys(str(record.error) for record in bad)]))
    lines = [f"{title(record, sweep.trials.shared)} {record.state}: {record.error or ''}" for record in bad]
    sys.stderr.write("\n  ".join([f"mgie {sweep.request.record.command}: error: {head}", *lines]) + "\n")
    raise SystemExit(SOME_FAILED)
