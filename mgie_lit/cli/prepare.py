"""``mgie prepare``: what is done with data before training, one module a step (``cli/prepare_<step>.py``)."""

from __future__ import annotations

import sys
from importlib import import_module

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help
from mgie_lit.errors import ConfigError

STEPS = ("preview",)  # each has a module `prepare_<step>` with `run(overrides)`

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
    if not argv or argv[0] not in STEPS:
        raise ConfigError(f"expected {', '.join(STEPS)}, got {argv[0] if argv else 'nothing'}; see --help")
    import_module(f"mgie_lit.cli.prepare_{argv[0]}").run(argv[1:])
