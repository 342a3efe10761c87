"""A Hydra app with our own errors: one run or a sweep of a job over a composed config."""

from __future__ import annotations

import os
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from hydra._internal.utils import _run_hydra, get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.types import IntervalSweep
from omegaconf import DictConfig

from mgie_lit.cli.sweep.record import SweepRecord, pin_directory, resume_request
from mgie_lit.cli.sweep.run import run_sweep
from mgie_lit.cli.sweep.sweep import SweepRequest
from mgie_lit.cli.sweep.task import forget_key, set_run_dir
from mgie_lit.config.compose import load_config, make_loader
from mgie_lit.config.location import config_dir
from mgie_lit.config.override_faults import list_groups, option_fault, parse_override
from mgie_lit.config.resolvers import forget_directories, reserve_directory
from mgie_lit.config.validate import validate_config
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Iterator, Sequence

    from hydra.core.config_loader import ConfigLoader

    Job = Callable[[DictConfig], float | None]

_OTHER_ACTIONS = ("cfg", "info", "shell_completion", "help", "hydra_help")


def run_hydra(
    primary: str,
    argv: list[str],
    job: Job,
    *,
    unused: Collection[str] = (),
    trial_job: Job | None = None,
    can_resume: Callable[[Path], bool] = lambda _: False,
) -> None:
    """Compose a primary config and run a job on it, or on each config of a sweep, as ``hydra.main`` would.

    All faults of the config are reported together before anything runs. What the job raises arrives here as itself.
    The job gets the config without Hydra's node, with ``paths.run_dir`` set to its own existing directory.

    Args:
        primary: Name of the primary config, and of the job.
        argv: Overrides and Hydra's flags.
        job: What to run; the number it returns, if any, is what a sweeper minimises or maximises.
        unused: Top-level config keys that the job does not build from; see `validate_config`.
        trial_job: What to run as a trial of a sweep, where that is not ``job``.
        can_resume: Whether a trial's directory holds a run that can go on, so that ``resume`` is set to it.

    Raises:
        ConfigError: The arguments or the config are faulty.
        MGIEError: Trials of a sweep failed for reasons that the user can repair.
        SystemExit: Trials of a sweep failed otherwise.
    """
    parser = get_args_parser()
    command, parser.prog = primary, f"mgie {primary}"
    arguments = parser.parse_intermixed_args(argv)
    _refuse_conflicts(arguments)
    resumed = resume_request(arguments.overrides)
    record = _sweep_record(command, arguments, resumed)
    forget_directories()
    primary = arguments.config_name or command
    root = _config_root(arguments)
    extra = Path(arguments.config_dir) if arguments.config_dir else None
    loader = make_loader(command, root, extra)
    is_sweep = arguments.multirun or resumed is not None or _hydra_mode(arguments.overrides) == "MULTIRUN"
    checked = _first_of_each_sweep(loader, arguments.overrides) if is_sweep else arguments.overrides
    config = load_config(loader, primary, checked)
    is_sweep = is_sweep or str(config.hydra.mode or "").endswith("MULTIRUN")

    def launch(task: Job) -> None:
        task.__module__ = f"mgie_lit.cli.{command}"  # Hydra names the job after it
        with _errors_pass():
            _run_hydra(arguments, parser, task, str(root), primary)

    if any(getattr(arguments, action) for action in _OTHER_ACTIONS):
        launch(job)
        return
    if is_sweep:
        check = partial(_check, unused=unused)
        run_sweep(SweepRequest(record, loader, config, trial_job or job, can_resume, check, resumed))
    else:
        _check(config, unused)
        _run_once(launch, job, config)


def _sweep_record(command: str, arguments: argparse.Namespace, resumed: Path | None) -> SweepRecord:
    """What a sweep is started with, if it is one; of one that goes on, what it was, and ``arguments`` follow."""
    record = SweepRecord(
        command, tuple(arguments.overrides), arguments.config_name, arguments.config_path, arguments.config_dir
    )
    if resumed is not None:
        record = SweepRecord.read(resumed).continued(command, arguments.overrides, resumed)
        arguments.overrides = pin_directory(resumed, record.overrides)
        arguments.config_name, arguments.config_path = record.config_name, record.config_path
        arguments.config_dir = record.config_dir
    return record


def _run_once(launch: Callable[[Job], None], job: Job, config: DictConfig) -> None:
    raised: list[Exception] = []

    def task(composed: DictConfig) -> float | None:
        set_run_dir(composed, Path(HydraConfig.get().runtime.output_dir))
        forget_key(composed, "sweep")
        try:
            return job(composed)
        except Exception as error:  # raised again below, without Hydra's own report
            raised.append(error)
            return None

    run_dir = Path(str(config.hydra.run.dir))
    is_new = reserve_directory(run_dir)
    run_dir = Path(str(config.hydra.run.dir))  # the reserved name, where the first was taken
    try:
        launch(task)
    finally:
        if is_new and not any(run_dir.iterdir()):
            run_dir.rmdir()  # a job that failed at once leaves no empty directory
    if raised:
        raise raised[0]


def _refuse_conflicts(arguments: argparse.Namespace) -> None:
    given = [name for name in ("run", "multirun", "cfg", "info", "shell_completion") if getattr(arguments, name)]
    if len(given) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in given)
        raise ConfigError(f"expected one of Hydra's actions, got {flags}; leave out all but one")
    if arguments.resolve and not arguments.cfg:
        raise ConfigError("--resolve: only with --cfg; write --cfg job --resolve")
    if arguments.experimental_rerun:
        raise ConfigError("--experimental-rerun: not supported, it would load a pickle; use --config-name or resume=")


def _config_root(arguments: argparse.Namespace) -> Path:
    if arguments.config_path is None:
        return config_dir()
    root = Path(arguments.config_path).absolute()
    if not root.is_dir():
        raise ConfigError(f"--config-path: expected a folder with config files, got {root}, which is none")
    return root


def _hydra_mode(overrides: Sequence[str]) -> str | None:
    modes = [text.partition("=")[2].upper() for text in overrides if text.lstrip("+").startswith("hydra.mode=")]
    return modes[-1].rpartition(".")[2] if modes else None


def _first_of_each_sweep(loader: ConfigLoader, overrides: Sequence[str]) -> list[str]:
    """The overrides of one job of the sweep; unknown options are refused for all jobs at once."""
    groups = set(list_groups(loader))
    faults: list[str] = []
    first: list[str] = []
    for text in overrides:
        override = parse_override(loader, text)
        if override is None or not override.is_sweep_override():
            first.append(text)
            continue
        key, value = override.get_key_element(), override.value()
        if isinstance(value, IntervalSweep):
            first.append(f"{key}={value.start}")
            continue
        single = [f"{key}={element}" for element in override.sweep_string_iterator()]
        parsed = (parse_override(loader, element) for element in single)
        faults += [fault for one in parsed if one is not None and (fault := option_fault(loader, groups, one))]
        first += single[:1]
    if faults:
        raise ConfigError("\n".join(faults))
    return first


def _check(config: DictConfig, unused: Collection[str]) -> None:
    previous = HydraConfig.instance().cfg
    if "hydra" in config:
        HydraConfig.instance().set_config(config)  # for ${hydra:...} inside the config
    try:
        validate_config(config, unused=unused)
    finally:
        HydraConfig.instance().cfg = previous


@contextmanager
def _errors_pass() -> Iterator[None]:
    """Keep Hydra from printing exceptions and exiting by itself; nothing of it stays in the process."""
    config, before = HydraConfig.instance().cfg, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        HydraConfig.instance().cfg = config
        if before is None:
            del os.environ["HYDRA_FULL_ERROR"]
        else:
            os.environ["HYDRA_FULL_ERROR"] = before
