"""What a run directory records of its run: config, overrides, versions."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, cast

import yaml
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

import mgie_lit
from mgie_lit.config.files import publish_text
from mgie_lit.config.location import PACKAGE_DIR
from mgie_lit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

CONFIG_FILE, OVERRIDES_FILE, VERSIONS_FILE = "config.yaml", "overrides", "versions.json"
PROCESSES_PREFIX = ".processes-"  # folder in which the processes of one training find their config
RUN_FILES = (CONFIG_FILE, OVERRIDES_FILE, VERSIONS_FILE)
_RESULTS = (
    "checkpoints",
    "metrics.csv",
    "metrics.json",
    "per_sample.parquet",
    "all_turns.parquet",
    "progress",
    "grid.png",
    "images",
    "sources",
    "targets",
)
_RECORDED_PACKAGES = (
    "torch",
    "lightning",
    "torchmetrics",
    "transformers",
    "tokenizers",
    "diffusers",
    "safetensors",
    "hydra-core",
    "omegaconf",
    "numpy",
    "pillow",
)


def check_free(run_dir: Path) -> None:
    """Make sure that a job can have a directory: nothing of a run or an evaluation lies in it.

    Args:
        run_dir: Where the job is to write; it need not exist.

    Raises:
        ConfigError: ``run_dir`` is another job's directory.
    """
    _refuse(run_dir, (*RUN_FILES, *_RESULTS))


def has_results(run_dir: Path) -> bool:
    """Whether a job has left more than its record: checkpoints, tables or images."""
    return any((run_dir / name).exists() for name in _RESULTS)


def write_run_files(run_dir: Path, config: DictConfig, overrides: Sequence[str]) -> None:
    """Record a run: ``config.yaml`` (fully resolved), ``overrides`` and ``versions.json``; none is ever replaced.

    Args:
        run_dir: The run's directory (see `check_free`); it is made where it is missing.
        config: The composed config.
        overrides: What was typed, e.g. `current_overrides`.

    Raises:
        ConfigError: Another run is recorded in ``run_dir``.
    """
    content = resolved(config)
    _refuse(run_dir, RUN_FILES)
    texts = {
        CONFIG_FILE: OmegaConf.to_yaml(OmegaConf.create(content)),  # first: it claims the directory
        OVERRIDES_FILE: yaml.safe_dump(list(overrides), allow_unicode=True),
        VERSIONS_FILE: _versions_text(config),
    }
    for name, text in texts.items():
        try:
            publish_text(run_dir / name, text)
        except FileExistsError:  # another process was faster
            raise _occupied(run_dir, name) from None


def is_recorded(run_dir: Path) -> bool:
    """Whether `write_run_files` has come to its end there."""
    return all((run_dir / name).is_file() for name in RUN_FILES)


def remove_run_files(run_dir: Path) -> None:
    """Give a directory back that `write_run_files` has just claimed for a job that could not begin."""
    for name in RUN_FILES:
        (run_dir / name).unlink(missing_ok=True)


def complete_run_files(run_dir: Path, config: DictConfig) -> None:
    """Add ``versions.json`` to a run that was killed while it was being recorded.

    Args:
        run_dir: Of a run whose ``config.yaml`` is there.
        config: Of the run.
    """
    if not (run_dir / VERSIONS_FILE).exists():
        publish_text(run_dir / VERSIONS_FILE, _versions_text(config))
    if not (run_dir / OVERRIDES_FILE).exists():
        publish_text(run_dir / OVERRIDES_FILE, "[]\n")


def read_run_config(run_dir: Path, *, needed: Sequence[str] = RUN_FILES) -> DictConfig:
    """Config of a recorded run, as it was resolved then.

    Args:
        run_dir: A directory that `write_run_files` filled.
        needed: Files that have to be there.

    Returns:
        The config; a new object.

    Raises:
        CheckpointError: ``run_dir`` is not a run directory; the message names what is missing.
    """
    missing = [name for name in needed if not (run_dir / name).is_file()]
    if missing:
        state = "a folder without " + ", ".join(missing) if run_dir.is_dir() else "no folder"
        if run_dir.is_file():
            state = "a file; name the run's directory"
        raise CheckpointError(
            f"{run_dir}: not a run directory: expected one with {', '.join(RUN_FILES)}, as `mgie train` makes it, "
            f"got {state}"
        )
    try:
        config = OmegaConf.load(run_dir / CONFIG_FILE)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{run_dir / CONFIG_FILE}: expected a YAML file, cannot read it: {error}") from error
    if not isinstance(config, DictConfig):
        raise CheckpointError(f"{run_dir / CONFIG_FILE}: expected keys and values, got a list")
    return config


def current_overrides() -> list[str]:
    """Overrides of the Hydra job that is running, without Hydra's own; empty where none runs."""
    return [str(text) for text in HydraConfig.get().overrides.task] if HydraConfig.initialized() else []


def config_hash(config: DictConfig) -> str:
    """SHA-256 (hex) of the resolved config; ``paths.run_dir`` does not count, so that equal runs have equal hashes."""
    content = resolved(config)
    paths = content.get("paths")
    if isinstance(paths, dict):
        content["paths"] = {key: value for key, value in paths.items() if key != "run_dir"}
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def resolved(config: DictConfig) -> dict[str, Any]:
    """The config as plain dicts, lists and values, without Hydra's own node."""
    own = config.copy()
    if "hydra" in own:
        with read_write(own), open_dict(own):
            del own["hydra"]
    return cast("dict[str, Any]", OmegaConf.to_container(own, resolve=True, enum_to_str=True))


def versions() -> dict[str, Any]:
    """Versions of Python, of this package and of the libraries that move numbers; null where one is not installed."""
    return {
        "mgie_lit": mgie_lit.__version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _installed_version(name) for name in _RECORDED_PACKAGES},
        **git_state(PACKAGE_DIR),
    }


def git_state(package_dir: Path) -> dict[str, Any]:
    """Commit of the checkout that ``package_dir`` lies in, and whether files differ from it; null outside one.

    A package installed into an environment that happens to lie inside somebody's repository is not in a checkout.
    """
    top = _git(package_dir, "rev-parse", "--show-toplevel")
    commit = _git(package_dir, "rev-parse", "HEAD")
    tracked = _git(package_dir, "ls-files", "__init__.py")
    if not top or not commit or not tracked or not package_dir.parent.samefile(top):
        return {"git_commit": None, "git_dirty": None}
    changes = _git(package_dir, "status", "--porcelain", "--untracked-files=no")
    return {"git_commit": commit, "git_dirty": bool(changes)}


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "--no-optional-locks", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):  # no git here, or a file system that hangs
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _versions_text(config: DictConfig) -> str:
    return json.dumps(versions() | {"config_hash": config_hash(config)}, indent=2) + "\n"


def _installed_version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _refuse(run_dir: Path, names: Sequence[str]) -> None:
    taken = next((name for name in names if (run_dir / name).exists()), None)
    if taken is not None:
        raise _occupied(run_dir, taken)


def _occupied(run_dir: Path, name: str) -> ConfigError:
    return ConfigError(
        f"paths.run_dir: expected a new directory, but {run_dir} holds {name} of another run; nothing was written. "
        "Choose a new one with paths.run_dir=<new>, or continue that run with resume=<dir>"
    )
