"""The help of every command, as the commands print it."""

from __future__ import annotations

import os
import subprocess
import sys

from mgie_lit.cli.main import COMMANDS

WIDTH = "86"  # characters of a line; what argparse reads from COLUMNS
GROUPS = "config groups:"


def page() -> str:
    """Markdown of all commands.

    Returns:
        A section a command. The list of config groups, the same in several commands, is a link.
    """
    parts = ["# Command line\n", _block(_help())]
    for command in COMMANDS:
        text, groups, _ = _help(command).partition(GROUPS)
        parts.append(f"## mgie {command}\n\n{_block(text.rstrip())}")
        if groups:
            parts.append("Config groups and keys: [Configuration](config/index.md).\n")
    return "\n".join(parts)


def _block(text: str) -> str:
    """A box whose lines wrap where the screen is narrow: most of a help is prose."""
    return f"``` {{ .text .wrapped }}\n{text}\n```\n"


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mgie_lit.cli.main", *command, "--help"],
        env=os.environ | {"COLUMNS": WIDTH},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip()
