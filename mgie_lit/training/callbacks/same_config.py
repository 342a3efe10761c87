"""All processes of a training work on one config."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import lightning
from torch import distributed

from mgie_lit.errors import ConfigError


class SameConfig(lightning.Callback):
    """Compares the hash of the resolved config over all processes before anything is trained, and records it.

    Args:
        config_hash: Of the config that this process has built everything from.
        versions_path: JSON file of the run that gets ``rank_config_hashes``, where it is there.
    """

    def __init__(self, config_hash: str, versions_path: Path) -> None:
        self.config_hash = config_hash
        self.versions_path = versions_path

    def setup(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, stage: str) -> None:
        """The processes know each other from here on."""
        hashes: list[Any] = [self.config_hash]
        if distributed.is_available() and distributed.is_initialized():
            hashes = [None] * distributed.get_world_size()
            distributed.all_gather_object(hashes, self.config_hash)
        if len(set(hashes)) > 1:
            listed = ", ".join(f"{value[:12]} on rank {rank}" for rank, value in enumerate(hashes))
            raise ConfigError(
                f"expected one config on all {len(hashes)} processes, got the hashes {listed}; start all of them with "
                "the same arguments, files and version, or let `mgie train trainer.devices=<number>` start them"
            )
        if trainer.is_global_zero and self.versions_path.is_file():
            content = json.loads(self.versions_path.read_text(encoding="utf-8")) | {"rank_config_hashes": hashes}
            temporary = self.versions_path.with_suffix(".tmp")
            temporary.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
            temporary.replace(self.versions_path)
