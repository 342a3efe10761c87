"""``mgie prepare cache``: latents and vision features of a training's images, encoded once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections import Counter

    from omegaconf import DictConfig

    from mgie_lit.data.cache.recipe import Recipe

_OWN_GROUP = "+cache=default"  # beside the groups of a training


def run(overrides: list[str]) -> None:
    """Bring the cache of a training up to date and print its folder.

    Args:
        overrides: Those of the training, and ``cache.*``.

    Raises:
        ConfigError: The config is faulty, or nothing of the system can be cached.
        DataError: The data or the cache can not be read.
    """
    from mgie_lit.config.compose import compose_config
    from mgie_lit.config.validate import validate_config
    from mgie_lit.prepare.expressive.shards import require_one_process

    require_one_process("mgie prepare cache", "cache.num_workers")
    config = compose_config("train", [_OWN_GROUP, *overrides])
    validate_config(config)
    if config.data.get("cache") is None:
        raise ConfigError("data.cache: expected the folder that the training will be given, got null; data.cache=<dir>")
    folder = Path(config.data.cache).expanduser()
    counts = _build(config, folder)
    encoded = ", ".join(f"{count} {kind}" for kind, count in counts.items() if kind != "examples")
    print(f"{counts['examples']} examples; encoded: {encoded or 'nothing, all was there'}\n{folder}")


def _build(config: DictConfig, folder: Path) -> Counter[str]:
    from mgie_lit.config.build import build_editor
    from mgie_lit.config.build_training import build_datamodule, build_module
    from mgie_lit.config.devices import choose_device
    from mgie_lit.data.readers import SPLITS
    from mgie_lit.prepare.cache import Encoder, build_cache

    options = config.cache
    unknown = [split for split in options.splits if split not in SPLITS]
    if unknown or not options.splits:
        raise ConfigError(f"cache.splits: expected a list of {', '.join(SPLITS)}, got {list(options.splits)}")
    device = choose_device(options.device, option="cache.device")
    editor = build_editor(config)
    build_module(config, editor).eval()  # chooses what trains
    config.data.cache = None  # there may be none yet
    datamodule = build_datamodule(config, editor)
    return build_cache(
        folder,
        {split: datamodule.dataset(split) for split in options.splits},
        datamodule.collator,
        _recipes(config, editor, datamodule.collator),
        Encoder(editor, device, config.trainer.precision),
        batch_size=options.batch_size,
        num_workers=options.num_workers,
        shard_size=options.shard_size,
        verify=options.verify,
    )


def _recipes(config: DictConfig, editor: object, collator: object) -> dict[str, Recipe]:
    """What to encode; what was asked for by name and can not be encoded is an error."""
    import logging

    from mgie_lit.data.cache.recipe import KINDS, recipes_of

    asked = config.cache.parts
    unknown = [kind for kind in asked or () if kind not in KINDS]
    if unknown:
        raise ConfigError(f"cache.parts: expected a list of {', '.join(KINDS)}, or null, got {list(asked)}")
    found = recipes_of(editor, collator, config.trainer.precision)  # type: ignore[arg-type]
    recipes: dict[str, Recipe] = {}
    reasons: list[str] = []
    for kind in KINDS if asked is None else asked:
        recipe = found[kind]
        if isinstance(recipe, str):
            reasons.append(f"no {kind}: {recipe}")
        else:
            recipes[kind] = recipe
    if reasons and (asked is not None or not recipes):
        raise ConfigError("\n".join(f"cache.parts: {reason}" for reason in reasons))
    for reason in reasons:
        logging.getLogger(__name__).warning("cache.parts: %s", reason)
    return recipes
