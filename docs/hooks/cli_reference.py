"""The help of every command, as the commands print it."""

from __future__ import annotations

import os
import subprocess
import sys

from mgie_lit.cli.main import COMMANDS

WIDTH = "110"  # characters of a line; what argparse reads from COLUMNS
GROUPS = "config groups:"


def page() -> str:
    """Markdown of all commands.

    Returns:
        A section a command. The list of config groups, the same in several commands, is a link.
    """
    parts = ["# Command line\n", f"```text\n{_help()}\n```\n"]
    for command in COMMANDS:
        text, groups, _ = _help(command).partition(GROUPS)
        parts.append(f"## mgie {command}\n\n```text\n{text.rstrip()}\n```\n")
        if groups:
            parts.append("Config groups and keys: [Configuration](config/index.md).\n")
    return "\n".join(parts)


def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "mgie_lit.cli.main", *command, "--help"],
        env=os.environ | {"COLUMNS": WIDTH},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.rstrip()
