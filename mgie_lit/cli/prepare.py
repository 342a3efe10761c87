"""``mgie prepare``: look at data before training."""

from __future__ import annotations

import sys
from pathlib import Path

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help
from mgie_lit.errors import ConfigError

HELP = """\
usage: mgie prepare preview [OVERRIDES]

preview: draw the first examples of a data set (conf/prepare.yaml) with their instructions on one picture, whose path
is printed last.

examples:
  mgie prepare preview data=photo_edits preview.count=40
  mgie prepare preview data=photo_edits_mixed data.root=my_photos preview.split=test preview.path=sheet.png
"""


def run(argv: list[str]) -> None:
    """Run a step of the preparation of data.

    Args:
        argv: The step, then overrides.

    Raises:
        ConfigError: The step does not exist, or the config is faulty.
    """
    if HELP_FLAGS & set(argv):
        sys.stdout.write(overrides_help(HELP, has_flags=False))
        return
    if not argv or argv[0] != "preview":
        raise ConfigError(f"expected preview, got {argv[0] if argv else 'nothing'}; see --help")
    _preview(argv[1:])


def _preview(overrides: list[str]) -> None:
    from mgie_lit.config.build import build_dataset
    from mgie_lit.config.compose import compose_config
    from mgie_lit.config.validate import validate_config
    from mgie_lit.prepare.preview import write_preview

    config = compose_config("prepare", overrides)
    validate_config(config, unused={"size"})
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
