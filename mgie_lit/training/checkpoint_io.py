"""How the trainer writes and reads checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from mgie_lit.checkpoints.integrity import digest_path, write_checked


class CheckedCheckpointIO(TorchCheckpointIO):
    """Lightning's reader with a writer that leaves no half file and records a hash."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint (see ``checkpoints.integrity``)."""
        write_checked(checkpoint, Path(path))

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its hash."""
        super().remove_checkpoint(path)
        digest_path(Path(path)).unlink(missing_ok=True)
