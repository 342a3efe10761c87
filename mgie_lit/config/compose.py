"""From a primary config and overrides to a config, with all mistakes reported together."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from mgie_lit.config.location import config_dir as default_config_dir
from mgie_lit.config.override_faults import COMPOSE_ERRORS, explain_faults, first_lines
from mgie_lit.config.resolvers import forget_directories, register_resolvers
from mgie_lit.config.sweepers import register_sweeper_defaults
from mgie_lit.config.validate import value_faults
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from hydra.core.config_loader import ConfigLoader

HYDRA_VERSION_BASE = "1.3"


def compose_config(primary: str, overrides: Sequence[str], *, config_dir: Path | None = None) -> DictConfig:
    """Compose a primary config without running a Hydra app.

    ``paths.run_dir``, where the config has it, is fixed to a new directory's name; nothing is made.

    Args:
        primary: Name of a primary config, e.g. ``"train"``.
        overrides: As on the command line, e.g. ``["experiment=smoke", "optimizer.lr=1e-4"]``.
        config_dir: The config tree; by default the project's own.

    Returns:
        The config without Hydra's own node; interpolations are not resolved yet.

    Raises:
        ConfigError: Overrides or configs are faulty; the message lists every faulty override.
    """
    forget_directories()
    config = load_config(make_loader(primary, config_dir), primary, overrides)
    with read_write(config), open_dict(config):
        if OmegaConf.select(config, "paths.run_dir", throw_on_missing=False) is not None:
            config.paths.run_dir = str(config.paths.run_dir)
        del config["hydra"]
    return config


def make_loader(job_name: str, config_dir: Path | None = None, extra_dir: Path | None = None) -> ConfigLoader:
    """Hydra's reader of the config tree.

    Args:
        job_name: What Hydra calls the job.
        config_dir: The config tree; by default the project's own.
        extra_dir: A further folder of configs, searched after the tree (Hydra's ``--config-dir``).

    Returns:
        The reader; Hydra's and our resolvers are registered.

    Raises:
        ConfigError: ``extra_dir`` is no folder.
    """
    version.setbase(HYDRA_VERSION_BASE)
    search_path = create_config_search_path(str(config_dir or default_config_dir()))
    if extra_dir is not None:
        if not extra_dir.is_dir():
            raise ConfigError(f"--config-dir: expected a folder with config files, got {extra_dir}, which is none")
        anchor = SearchPathQuery(provider="schema")
        search_path.prepend(provider="command-line", path=f"file://{extra_dir.resolve()}", anchor=anchor)
    loader = ConfigLoaderImpl(config_search_path=search_path)
    Hydra(task_name=job_name, config_loader=loader)  # registers Hydra's resolvers and the job's name
    register_resolvers()
    register_sweeper_defaults()
    return loader


def load_config(loader: ConfigLoader, primary: str, overrides: Sequence[str]) -> DictConfig:
    """Compose with ``loader``; the config keeps Hydra's own node.

    Args:
        loader: From `make_loader`.
        primary: Name of a primary config.
        overrides: As on the command line, without sweeps.

    Returns:
        The config with its ``hydra`` node.

    Raises:
        ConfigError: Overrides or configs are faulty; the message lists every faulty override, and every value out of
            range in what the others make.
    """

    def load(given: Sequence[str]) -> DictConfig:
        return loader.load_configuration(primary, list(given), run_mode=RunMode.RUN)

    try:
        return load(overrides)
    except COMPOSE_ERRORS as error:
        faults, rest = explain_faults(loader, load, primary, overrides)
        if rest is not None:
            faults += value_faults(rest)
        raise ConfigError("\n".join(faults) or f"{primary}: {first_lines(error)}") from error
