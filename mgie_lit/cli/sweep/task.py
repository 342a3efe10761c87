"""One trial: what Hydra's launchers call, in whichever process they call it."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mgie_lit.cli.launch import ProcessKilledError
from mgie_lit.cli.messages import ShownError, show_traceback, shows_tracebacks, user_message
from mgie_lit.cli.rank import PR_SET_PDEATHSIG, TERMINATED
from mgie_lit.cli.sweep.devices import DevicePool, demand, only_visible
from mgie_lit.config.runs import current_overrides
from mgie_lit.trials import FAILED, FINISHED, KILLED, STOPPED, TRIAL_FILE, TrialRecord

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

    Job = Callable[[DictConfig], float | None]

STOP_FILE = ".stopping"  # in the sweep's directory while it is asked to end: no further trial begins


class TrialFailed(RuntimeError):  # noqa: N818 - what happened, and no fault of the sweep
    """A trial has no value; its record says why. Made of a text alone, so that it travels between processes."""


@dataclass(frozen=True)
class TrialTask:
    """Runs a job as a trial of a sweep and keeps its record; whatever happens to the job ends here.

    Attributes:
        job: What to run.
        can_resume: Whether a directory holds a run that can go on.
        sweep_dir: Of the sweep.
        sweeper_pid: The process that runs the sweep; without it a trial does not go on.
        pool: Devices that the trials share.
        shared: Overrides that all trials have.
    """

    job: Job
    can_resume: Callable[[Path], bool]
    sweep_dir: Path
    sweeper_pid: int
    pool: DevicePool | None = None
    shared: frozenset[str] = frozenset()

    def __call__(self, config: DictConfig) -> float | None:
        """Run the trial that Hydra has composed, unless it is over.

        Args:
            config: The trial's, without Hydra's node.

        Returns:
            Its value, as its record has it.

        Raises:
            TrialFailed: It has none, and was to have one.
        """
        directory = Path(HydraConfig.get().runtime.output_dir)
        before = TrialRecord.read(directory)
        if before is not None and before.is_over:
            return _value_of(before)
        if (self.sweep_dir / STOP_FILE).exists():
            raise TrialFailed("not begun: the sweep was asked to end")
        if before is not None and before.is_alive and before.pid != os.getpid():
            raise TrialFailed(f"not begun: process {before.pid} works on it")
        with _ends_with(self.sweeper_pid):
            record = self._run(config, directory, before)
        if record.error:
            sys.stderr.write(f"{title(record, self.shared)} {record.state}: {record.error}\n")
        return _value_of(record)

    def _run(self, config: DictConfig, directory: Path, before: TrialRecord | None) -> TrialRecord:
        set_run_dir(config, directory)
        record = TrialRecord.begin(
            int(HydraConfig.get().job.num),
            tuple(current_overrides()),
            metric=OmegaConf.select(config, "optimized_metric"),
            attempts=1 if before is None else before.attempts + 1,
        )
        record.write(directory)
        try:
            count = demand(config, self.pool)
            with contextlib.ExitStack() as stack:
                if self.pool is not None and count:
                    record = record.with_devices(stack.enter_context(self.pool.lease(count)))
                    stack.enter_context(only_visible(record.devices))
                    record.write(directory)
                forget_key(config, "sweep")
                if before is not None:
                    _prepare(config, directory, self.can_resume)
                value = self.job(config)
            record = record.finished(value)
        except (SystemExit, KeyboardInterrupt) as error:
            was_asked = isinstance(error, KeyboardInterrupt) or error.code == TERMINATED
            record = record.end(STOPPED) if was_asked else record.end(FAILED, error=repr(error))
            if was_asked and os.getpid() == self.sweeper_pid:  # the signal was for the sweep
                stop(self.sweep_dir, signal.SIGINT if isinstance(error, KeyboardInterrupt) else signal.SIGTERM)
        except Exception as error:  # the one place where errors of trials end
            record = _failed(record, error)
        record.write(directory)
        return record


def set_run_dir(config: DictConfig, directory: Path) -> None:
    """Fix ``paths.run_dir`` of a job to the directory that Hydra made for it."""
    with read_write(config), open_dict(config):
        OmegaConf.update(config, "paths.run_dir", str(directory), force_add=True)


def forget_key(config: DictConfig, key: str) -> None:
    """How a sweep is run is no matter of a run."""
    with read_write(config), open_dict(config):
        config.pop(key, None)


def _prepare(config: DictConfig, directory: Path, can_resume: Callable[[Path], bool]) -> None:
    """Let a trial that was interrupted go on, or begin anew where it left nothing to go on from."""
    if can_resume(directory):
        with read_write(config), open_dict(config):
            config.resume = str(directory)
        return
    for path in directory.iterdir():
        if path.name != TRIAL_FILE:
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _failed(record: TrialRecord, error: Exception) -> TrialRecord:
    message = user_message(error)
    if message is None or shows_tracebacks():
        show_traceback(error)
    state = KILLED if isinstance(error, ProcessKilledError) else FAILED
    text = message or (str(error) if isinstance(error, ShownError) else repr(error))
    return record.end(state, error=text, is_user_fault=message is not None)


def _value_of(record: TrialRecord) -> float | None:
    if record.value is None and (record.state != FINISHED or record.error):
        raise TrialFailed(record.error or record.state)
    return record.value


def stop(sweep_dir: Path, signum: int) -> None:
    """Let no further trial of a sweep begin, in whichever process, because a signal came."""
    (sweep_dir / STOP_FILE).write_text(str(int(signum)), encoding="utf-8")


def title(record: TrialRecord, shared: Collection[str]) -> str:
    """A trial with the overrides that are its own."""
    own = [text for text in record.overrides if text not in shared]
    return f"trial {record.number} ({' '.join(own)})" if own else f"trial {record.number}"


@contextlib.contextmanager
def _ends_with(sweeper_pid: int) -> Iterator[None]:
    """End the trial when its process is told to, or when the process of the sweep dies."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    if sys.platform == "linux" and os.getppid() == sweeper_pid:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    before = {
        signal.SIGTERM: signal.signal(signal.SIGTERM, _terminate),
        signal.SIGINT: signal.signal(signal.SIGINT, signal.default_int_handler),
    }
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)


def _terminate(signum: int, frame: object) -> NoReturn:
    raise SystemExit(TERMINATED)
