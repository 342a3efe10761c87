"""``mgie prepare preview``: the first examples of a data set on one picture."""

from __future__ import annotations

from pathlib import Path

from mgie_lit.errors import ConfigError


def run(overrides: list[str]) -> None:
    """Draw a contact sheet and print its path.

    Args:
        overrides: Of ``conf/prepare.yaml``.

    Raises:
        ConfigError: The config is faulty, or the picture is there already.
    """
    from mgie_lit.config.build import build_dataset
    from mgie_lit.config.compose import compose_config
    from mgie_lit.config.validate import validate_config
    from mgie_lit.prepare.preview import write_preview

    config = compose_config("prepare", overrides)
    validate_config(config, unused={"size", "expressive"})
    path = Path(config.preview.path)
    if path.exists():
        raise ConfigError(f"preview.path: expected a new file, but {path} exists; choose another with preview.path=")
    split, count = str(config.preview.split), int(config.preview.count)
    if split in config.data.num_examples:
        config.data.num_examples[split] = count  # a longer set begins with the same examples
    dataset = build_dataset(config, split)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_preview(dataset, path, count)
    print(path)
