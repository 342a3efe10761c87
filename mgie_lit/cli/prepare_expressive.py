"""``mgie prepare expressive``: expressive instructions for a data set that brings none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    import torch
    from omegaconf import DictConfig

    from mgie_lit.prepare.expressive.recipe import Recipe

_SPLITS = "expressive.splits"
_LOCAL_RANKS = ("LOCAL_RANK", "SLURM_LOCALID")  # of torchrun and srun


def run(overrides: list[str]) -> None:
    """Derive instructions and print the path of their file; while other shards work, that of this shard's part.

    Args:
        overrides: Of ``conf/prepare.yaml``.

    Raises:
        MGIEError: Config, data or models can not be used; what was made so far is kept.
    """
    from mgie_lit.config.build import build_dataset
    from mgie_lit.config.compose import compose_config
    from mgie_lit.config.runs import resolved, versions
    from mgie_lit.config.validate import validate_config

    config = compose_config("prepare", overrides)
    validate_config(config, unused={"size"})
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()  # type: ignore[no-untyped-call]  # of reading weights; ours counts rows
    from mgie_lit.prepare.expressive.derive import check_path, derive
    from mgie_lit.prepare.expressive.requests import Requests
    from mgie_lit.prepare.expressive.shards import choose_shard

    path, splits, shard = _path(config), _splits(config), choose_shard(config.expressive.shard)
    check_path(path)
    recipe = _build_recipe(config)
    recipe.check()
    requests = Requests({split: build_dataset(config, split) for split in splits})
    environment: dict[str, Any] = {
        "data": resolved(config)["data"],
        "models": {
            part: config.expressive[part].model for part in ("deriver", "summariser") if config.expressive[part]
        },
        "versions": versions()["packages"],
    }
    print(derive(requests, recipe, path, device=_device(config), shard=shard, environment=environment), flush=True)


def _path(config: DictConfig) -> Path:
    if config.expressive.path is None:
        raise ConfigError(
            "expressive.path: expected the file to make, got null; name one, e.g. "
            "expressive.path=data/expressive/ma5k.jsonl (the same name goes on after an interruption)"
        )
    path = Path(str(config.expressive.path)).expanduser()
    if path.suffix != ".jsonl":
        raise ConfigError(f"expressive.path: expected a name that ends in .jsonl, got {config.expressive.path}")
    return path


def _splits(config: DictConfig) -> list[str]:
    given = config.expressive.splits
    splits = [given] if isinstance(given, str) else list(given or [])
    known = list(config.data.num_examples)
    if not splits or len(set(splits)) != len(splits) or not set(splits) <= set(known):
        raise ConfigError(f"{_SPLITS}: expected some of {', '.join(known)}, each once, got {given}")
    return splits


def _build_recipe(config: DictConfig) -> Recipe:
    from hydra.utils import instantiate

    from mgie_lit.prepare.expressive.recipe import Recipe

    parts = {
        name: instantiate(config.expressive[name], _convert_="all")
        for name in ("deriver", "summariser", "cleaning", "flags")
    }
    names = ("on_empty", "batch_size", "sort")
    return Recipe(**parts, **{name: config.expressive[name] for name in names})


def _device(config: DictConfig) -> torch.device:
    """The device asked for, or the GPU that torchrun or srun mean this process to have."""
    import torch

    from mgie_lit.config.devices import choose_device

    given = config.expressive.device
    place = next((os.environ[name] for name in _LOCAL_RANKS if name in os.environ), None)
    if given is None and torch.cuda.is_available() and place is not None:
        given = f"cuda:{int(place) % torch.cuda.device_count()}"
    return choose_device(given, option="expressive.device")
