"""Frozen weights that a checkpoint does not hold, because they can be loaded again from where they came from."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.errors import CheckpointError
from mgie_lit.functional.hashing import tensors_hash

if TYPE_CHECKING:
    from pathlib import Path

    from torch import nn

FROZEN_KEY = "mgie_frozen"  # in a checkpoint: part -> where its frozen weights came from, and their hash


@dataclass(frozen=True, slots=True)
class FrozenPart:
    """The frozen parameters of one part of an editor."""

    source: str  # folder or hub id
    names: tuple[str, ...]  # of the editor's parameters
    sha256: str  # over names, number types and bytes

    def as_record(self) -> dict[str, str | int]:
        """Plain values for a checkpoint."""
        return {"source": self.source, "num_tensors": len(self.names), "sha256": self.sha256}


def frozen_parts(editor: nn.Module, sources: Mapping[str, str], *, stored: Collection[str]) -> dict[str, FrozenPart]:
    """What of an editor need not be stored.

    Args:
        editor: With the weights of ``sources``.
        sources: Name prefix of a part, e.g. ``guide.mllm``, -> folder that its weights were loaded from.
        stored: Names of the parameters that train, or that a checkpoint holds.

    Returns:
        By prefix; parts of which everything is stored are left out.
    """
    parts: dict[str, FrozenPart] = {}
    for prefix, source in sources.items():
        frozen = {
            name: parameter
            for name, parameter in editor.named_parameters()
            if name.startswith(f"{prefix}.") and name not in stored
        }
        if frozen:
            parts[prefix] = FrozenPart(source, tuple(frozen), tensors_hash(frozen))
    return parts


def check_frozen(recorded: Mapping[str, Mapping[str, object]], parts: Mapping[str, FrozenPart], path: Path) -> None:
    """Whether the weights that were loaded again are those that a checkpoint was trained with.

    Args:
        recorded: ``FrozenPart.as_record`` by prefix, from the checkpoint.
        parts: Of the editor that the checkpoint is loaded into.
        path: The checkpoint, for the message.

    Raises:
        CheckpointError: A part was not loaded, or is another one; the message has a line for each.
    """
    faults = []
    for prefix, record in recorded.items():
        part = parts.get(prefix)
        wanted = f"{path}: {prefix}: expected the frozen weights of {record['source']} (sha256 {record['sha256']})"
        if part is None:
            faults.append(f"{wanted}, which the checkpoint leaves out, got none; give their folder with size.start.*")
        elif part.sha256 != record["sha256"]:
            faults.append(f"{wanted}, got others from {part.source} (sha256 {part.sha256}); restore that folder")
    if faults:
        raise CheckpointError("\n".join(faults))
