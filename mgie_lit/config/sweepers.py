"""Defaults of the Optuna sweeper: a sweep can be continued, and a trial that fails does not end it."""

from __future__ import annotations

from hydra.core.config_store import ConfigStore

NAME = "optuna"


def register_sweeper_defaults() -> None:
    """Give ``hydra/sweeper=optuna`` defaults of ours, where the plugin is installed; safe to call again.

    A file in ``conf/`` can not: Hydra takes a file with the name of a plugin's config for one that this config checks.
    """
    try:
        from hydra_plugins.hydra_optuna_sweeper.config import OptunaSweeperConf
    except ImportError:
        return
    node = OptunaSweeperConf(
        direction="${sweep.direction}",
        storage="sqlite:///${hydra.sweep.dir}/optuna.db",
        study_name="sweep",
        max_failure_rate=1.0,
    )
    ConfigStore.instance().store(group="hydra/sweeper", name=NAME, node=node, provider="mgie_lit")
