"""``mgie prepare shards``: a data set as a few tar files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from mgie_lit.data.readers import EditDataset

_OF_THE_LOADER = (
    "batch_size",
    "num_workers",
    "cache",
    "index_dir",
    "length_buckets",
    "max_aspect",
    "reader",
    "streaming",
    "streaming_mib",
)  # do not change what is written


def run(overrides: list[str]) -> None:
    """Write the shards and print their folder last.

    Args:
        overrides: Of ``conf/prepare.yaml``.

    Raises:
        ConfigError: The config is faulty, or the folder holds something else.
        DataError: The data set can not be read.
    """
    from mgie_lit.config.compose import compose_config
    from mgie_lit.config.validate import validate_config
    from mgie_lit.prepare.expressive.shards import require_one_process
    from mgie_lit.prepare.shards.writing import write_shards

    require_one_process("mgie prepare shards", "shards.num_workers")
    config = compose_config("prepare", overrides)
    validate_config(config, unused={"size"})
    options = config.shards
    if options.path is None:
        raise ConfigError("shards.path: expected the folder to write, got null; give it as shards.path=<folder>")
    if options.max_bytes < 1:
        raise ConfigError(f"shards.max_bytes: expected at least 1, got {options.max_bytes}; raise it")
    folder = Path(options.path).expanduser()
    counts = write_shards(
        folder,
        _datasets(config),
        _settings(config),
        max_bytes=options.max_bytes,
        num_workers=options.num_workers,
        verify=options.verify,
    )
    print(", ".join(f"{count} {split}" for split, count in counts.items()) + f" examples\n{folder}")


def _datasets(config: DictConfig) -> dict[str, EditDataset]:
    from mgie_lit.config.build import build_dataset
    from mgie_lit.data.readers import SPLITS

    is_all = config.shards.splits == "all"
    asked = list(SPLITS) if is_all else list(config.shards.splits)
    if not asked or set(asked) - set(SPLITS):
        raise ConfigError(f"shards.splits: expected all, or a list of {', '.join(SPLITS)}, got {config.shards.splits}")
    datasets: dict[str, EditDataset] = {}
    missing: list[DataError] = []
    for split in (split for split in SPLITS if split in asked):
        try:
            datasets[split] = build_dataset(config, split)
        except DataError as error:  # not all data sets have all splits
            missing.append(error)
    if missing and not (is_all and datasets):
        raise missing[0]
    return datasets


def _settings(config: DictConfig) -> dict[str, Any]:
    """What decides on the content, as plain values by config key."""
    from omegaconf import OmegaConf

    content: Any = OmegaConf.to_container(config.data, resolve=True)
    return {f"data.{key}": value for key, value in content.items() if key not in _OF_THE_LOADER}
