"""How the trainer writes and reads checkpoint files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.fabric.plugins import TorchCheckpointIO

from mgie_lit.checkpoints.disk import content_bytes, full_disk_named
from mgie_lit.checkpoints.integrity import digest_path, write_checked
from mgie_lit.checkpoints.runs import SUFFIX


class CheckedCheckpointIO(TorchCheckpointIO):
    """Lightning's reader with a writer that leaves no half file and records a hash."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None) -> None:  # noqa: ANN401
        """Write a checkpoint (see ``checkpoints.integrity``)."""
        path = Path(path)
        with full_disk_named(path, needed=content_bytes(checkpoint), kept=_kept(path.parent)):
            write_checked(checkpoint, path)

    def remove_checkpoint(self, path: str | Path) -> None:
        """Remove a checkpoint and its hash."""
        super().remove_checkpoint(path)
        digest_path(Path(path)).unlink(missing_ok=True)


def _kept(folder: Path) -> str:
    """What a full disk has not touched."""
    earlier = sorted(folder.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)
    return f"The checkpoint before it is whole: {earlier[-1]}. " if earlier else ""
