"""The machine and its libraries; reads versions without importing what it asks about."""

from __future__ import annotations

import importlib
import importlib.util
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from netrc import NetrcParseError, netrc
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "lightning", "transformers", "diffusers", "wandb")
WANDB_HOST = "api.wandb.ai"


@dataclass(frozen=True, slots=True)
class Environment:
    """What a training would run in."""

    versions: dict[str, str | None]  # python and libraries; None = not installed
    torchvision: str  # version, or why that is as it should be
    disk: Path  # existing folder nearest to where runs go
    disk_free: int  # bytes
    wandb: str  # off, offline, online


def look_at_environment(root: Path, wandb_logger: Mapping[str, Any] | None) -> Environment:
    """Versions, free disk and what wandb would do.

    Args:
        root: Where runs go (``paths.root``); need not exist.
        wandb_logger: Config of the wandb logger; None = the training has none.

    Returns:
        The facts; nothing is imported or changed.
    """
    disk = next(folder for folder in (root.absolute(), *root.absolute().parents) if folder.exists())
    found = _version("torchvision")
    versions: dict[str, str | None] = {"python": platform.python_version()}
    return Environment(
        versions=versions | {name: _version(name) for name in PACKAGES},
        torchvision="not installed, and not needed" if found is None else found,
        disk=disk,
        disk_free=shutil.disk_usage(disk).free,
        wandb=_wandb_mode(wandb_logger),
    )


def torchvision_fault() -> str | None:
    """Why torchvision, which nothing here needs, keeps transformers, diffusers and Lightning from being imported.

    They import it where it is installed, whether it works or not; one that does not fit torch makes them all fail.
    """
    if importlib.util.find_spec("torchvision") is None:
        return None
    try:
        importlib.import_module("torchvision")
    except Exception as error:  # whatever it raises, the others will meet it too
        return (
            f"torchvision: expected none, or one that fits torch {_version('torch')}; got {_version('torchvision')}, "
            f"which fails to import ({error}) and takes transformers, diffusers and Lightning with it; run "
            "`pip uninstall torchvision`"
        )
    return None


def wandb_fault(mode: str) -> str | None:
    """Why a training that is to stream to wandb would stay offline: nobody is logged in."""
    if mode != "online" or os.environ.get("WANDB_API_KEY"):
        return None
    try:
        entry = netrc().authenticators(WANDB_HOST)
    except (OSError, NetrcParseError):
        entry = None
    if entry is not None:
        return None
    return (
        f"logger.wandb: expected a login for streaming (WANDB_API_KEY, or {WANDB_HOST} in ~/.netrc), found none, so "
        "the training would stay offline; run `wandb login`, or keep logger.wandb.offline=true"
    )


def _wandb_mode(logger: Mapping[str, Any] | None) -> str:
    if logger is None:
        return "off"
    mode = os.environ.get("WANDB_MODE", "").lower()
    if mode in ("offline", "disabled", "online"):
        return mode
    return "offline" if logger.get("offline") else "online"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
