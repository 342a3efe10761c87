"""The trials of a sweep: composed and checked before they run, launched through Hydra, looked after to their end."""

from __future__ import annotations

import logging
import sys
import time
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, open_dict, read_write

from mgie_lit.cli.sweep.task import STOP_FILE, title
from mgie_lit.config.compose import load_config
from mgie_lit.errors import ConfigError
from mgie_lit.trials import FAILED, KILLED, RUNNING, STOPPED, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from hydra.core.config_loader import ConfigLoader
    from hydra.plugins.launcher import Launcher

LOG = logging.getLogger(__name__)
POLL_SECONDS = 0.5


@dataclass(frozen=True)
class Planned:
    """A trial before it runs."""

    number: int
    overrides: tuple[str, ...]
    directory: Path
    fault: str | None = None  # why it can not run

    def record(self) -> TrialRecord | None:
        """What it has recorded so far."""
        return TrialRecord.read(self.directory)


@dataclass
class Trials:
    """Plans trials and runs them.

    Attributes:
        loader: Of the sweep's config tree.
        config_name: Primary config.
        check: Raises where a composed config can not be used.
        sweep_dir: Of the sweep.
        hydra_overrides: Those of Hydra's own node, which all trials have.
        shared: Other overrides that all trials have.
        launcher: Hydra's, with the task that runs a trial; None = trials can only be planned.
        known: Every trial that was planned, by its number.
    """

    loader: ConfigLoader
    config_name: str
    check: Callable[[DictConfig], None]
    sweep_dir: Path
    hydra_overrides: Sequence[str]
    shared: frozenset[str]
    launcher: Launcher | None = None
    known: dict[int, Planned] = field(default_factory=dict)

    def plan(self, batch: Sequence[Sequence[str]], first: int) -> list[Planned]:
        """Compose and check trials.

        Args:
            batch: Overrides of each.
            first: Number of the first.

        Returns:
            The trials; one that can not run says why.

        Raises:
            ConfigError: Their directories hold other trials.
        """
        planned = [self._plan(tuple(overrides), first + index) for index, overrides in enumerate(batch)]
        self.known |= {one.number: one for one in planned}
        faults = [fault for one in planned if (fault := _other_trial(one))]
        if faults:
            raise ConfigError("\n".join(faults))
        return planned

    def run(self, planned: Sequence[Planned]) -> list[TrialRecord | None]:
        """Run trials that are not over, and wait until all have ended.

        Args:
            planned: Of successive numbers.

        Returns:
            Their records; None for one that has not begun, because the sweep was asked to end.
        """
        for one in planned:
            self.refuse(one)
        while pending := [index for index, one in enumerate(planned) if _is_pending(one)]:
            if not self._launch(planned[pending[0] : pending[-1] + 1]):
                break
            for one in planned:
                if _is_lost(one):  # by its own fault or by that of one beside it: alone it shows
                    self._launch([one])
                    self._close(one)
        for one in planned:
            self._close(one)
        return [one.record() for one in planned]

    def reopen(self, planned: Sequence[Planned]) -> None:
        """Let trials that failed or were killed begin once more."""
        for one in planned:
            record = one.record()
            if record is not None and record.state in (FAILED, KILLED):
                record.end(STOPPED).write(one.directory)

    def refuse(self, one: Planned) -> None:
        """Record a trial as failed if it can not run, and say so."""
        before = one.record()
        if one.fault is None or (before is not None and before.is_over):
            return
        record = TrialRecord.begin(one.number, one.overrides, metric=None, attempts=0)
        record = record.end(FAILED, error=one.fault, is_user_fault=True)
        record.write(one.directory)
        sys.stderr.write(f"{title(record, self.shared)} failed: {one.fault}\n")

    def fail(self, record: TrialRecord) -> None:
        """Mark a trial that finished as failed, because its sweeper can do nothing with it."""
        why = record.error or "it gave no value to optimize"
        record.end(FAILED, error=why, is_user_fault=True).write(self.known[record.number].directory)

    @property
    def is_stopping(self) -> bool:
        """Whether the sweep was asked to end."""
        return (self.sweep_dir / STOP_FILE).exists()

    def _plan(self, overrides: tuple[str, ...], number: int) -> Planned:
        directory = self.sweep_dir / str(number)
        try:
            config = load_config(self.loader, self.config_name, [*self.hydra_overrides, *overrides])
            directory = self.sweep_dir / _subdirectory(config, number)
            self.check(config)
        except ConfigError as error:
            return Planned(number, overrides, directory, str(error))
        return Planned(number, overrides, directory)

    def _launch(self, planned: Sequence[Planned]) -> bool:
        """Hand trials to Hydra's launcher.

        Returns:
            Whether it lost processes that had trials to run.
        """
        assert self.launcher is not None
        before = [one.record() for one in planned]
        given = [() if one.fault is not None else one.overrides for one in planned]  # one with a fault has ended
        try:
            self.launcher.launch([list(overrides) for overrides in given], initial_job_idx=planned[0].number)
        except Exception as error:
            if [one.record() for one in planned] == before:
                raise  # nothing began: it is the launcher that can not be used
            LOG.warning("the launcher lost trials: %s", str(error).strip().split("\n")[0])
            self._wait(planned)
            return isinstance(error, BrokenProcessPool) and not self.is_stopping
        return False

    def _wait(self, planned: Sequence[Planned]) -> None:
        """Until none runs: a launcher that gave up on one trial may have left others at work."""
        while any((record := one.record()) is not None and record.is_alive for one in planned):
            time.sleep(POLL_SECONDS)

    def _close(self, one: Planned) -> None:
        """Mark a trial whose process is gone."""
        record = one.record()
        if record is None or not _is_lost(one):
            return
        if self.is_stopping:
            record.end(STOPPED).write(one.directory)
            return
        record = record.end(KILLED, error="its process ended without a word (out of memory?)")
        record.write(one.directory)
        sys.stderr.write(f"{title(record, self.shared)} killed: {record.error}\n")


def _subdirectory(config: DictConfig, number: int) -> str:
    with read_write(config), open_dict(config):
        config.hydra.job.num = number
        config.hydra.job.id = str(number)
    previous = HydraConfig.instance().cfg
    HydraConfig.instance().set_config(config)  # for ${hydra:...}
    try:
        return str(config.hydra.sweep.subdir)
    finally:
        HydraConfig.instance().cfg = previous


def _is_pending(one: Planned) -> bool:
    record = one.record()
    return record is None or not record.is_over


def _is_lost(one: Planned) -> bool:
    record = one.record()
    return record is not None and record.state == RUNNING and not record.is_alive


def _other_trial(one: Planned) -> str | None:
    record = one.record()
    if record is None or (record.number, record.overrides) == (one.number, one.overrides):
        return None
    return (
        f"trial {one.number}: expected {one.directory} to be its own, but a trial {record.number} with "
        f"{' '.join(record.overrides)} is recorded there, and this one has {' '.join(one.overrides)}; has the config "
        "changed? Choose another directory with hydra.sweep.dir=<dir>"
    )
