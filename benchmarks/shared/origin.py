"""Where the numbers of a page come from, and the files they go into."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

OUTPUTS = ("--json", "--markdown")  # options of files


def environment() -> dict[str, Any]:
    """Where the numbers come from."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7"]
    commit = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parent).stdout
    names = ("torch", "transformers", "diffusers")
    return {
        "commit": commit.strip() or "unknown",
        "month": datetime.now(tz=UTC).strftime("%B %Y"),
        "cpu_cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": {name: importlib.metadata.version(name) for name in names},
    }


def origin(env: dict[str, Any], command: str) -> str:
    """Where the numbers of a page come from.

    Args:
        env: From ``environment``.
        command: That made the page.
    """
    versions = ", ".join(f"{name} {version}" for name, version in env["versions"].items())
    return (
        f"`{command}` at commit `{env['commit']}`, {env['cpu_cores']} CPU cores ({env['threads']} thread(s) used; "
        f"other work may have run at the same time, so CPU seconds count), Python {env['python']}, {versions}. "
        "This page is written by that command."
    )


def command_of(script: str) -> str:
    """What a reader has to type to measure the same; where the files went is not his matter.

    Args:
        script: Path of the benchmark that is running.
    """
    kept = sys.argv[1:]
    for option in OUTPUTS:
        if option in kept:
            place = kept.index(option)
            del kept[place : place + 2]
    return shlex.join(["python", f"benchmarks/{Path(script).name}", *kept])


def write_files(texts: Mapping[Path | None, str]) -> None:
    """Write texts to their files, a line end behind each.

    Args:
        texts: By file; None = nobody asked for this one.
    """
    for path, text in texts.items():
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text + "\n", encoding="utf-8")
