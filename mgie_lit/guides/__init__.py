"""Guides: what turns a source image and an instruction into the UNet's cross-attention sequence.

Every system is one guide in front of one editor; a new system is a new file here, or only a new config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from mgie_lit.types import Condition, EditBatch, GuideLosses


class Guide(Protocol):
    """What an editor asks of a guide; guides are ``nn.Module``s."""

    def losses(self, batch: EditBatch) -> GuideLosses:
        """Condition of a training batch (teacher forced) and the guide's own losses."""
        ...

    def condition(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> Condition:
        """Condition of RGB images and instructions at inference; no gradient."""
        ...
