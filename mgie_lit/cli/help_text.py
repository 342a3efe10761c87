"""Help of the commands that take config overrides; reads file names only, so that it is fast."""

from __future__ import annotations

from mgie_lit.config.location import config_dir, list_options
from mgie_lit.errors import ConfigError

HELP_FLAGS = frozenset({"-h", "--help"})
_INDENT = " " * 14
_LINE_WIDTH = 100

_OVERRIDES = """\
overrides:
  group=option        choose an option of a config group, listed below
  key=value           change a value, e.g. optimizer.lr=1e-4; a list is [1,2]
  +key=value, ~key    add a new key, remove one
"""
_HYDRA_FLAGS = """\
flags (Hydra's):
  -m, --multirun      run a sweep: optimizer.lr=1e-4,3e-4 makes two runs
  --cfg job           print the config and stop; with --resolve, its final values
  --config-dir DIR    look for configs in this folder, too
  --info, --hydra-help  more about Hydra
"""


def overrides_help(head: str, *, has_flags: bool = True) -> str:
    """Help of a command: its own ``head``, how overrides are written, and the groups there are."""
    return "\n".join([head, _OVERRIDES, *([_HYDRA_FLAGS] if has_flags else []), groups_help()])


def groups_help() -> str:
    """Config groups with their options, one group a line."""
    try:
        options = list_options(config_dir())
    except ConfigError as error:
        return f"config groups: {error}\n"
    lines = ["config groups:"]
    for group, names in options.items():
        line = f"  {group:<{len(_INDENT) - 3}}"
        for name in names:
            if len(line) + len(name) + 1 > _LINE_WIDTH:
                lines.append(line)
                line = _INDENT[:-1]
            line += f" {name}"
        lines.append(line)
    return "\n".join(lines) + "\n"
