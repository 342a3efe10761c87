"""Guides: what turns a source image and an instruction into the UNet's cross-attention sequence.

Every system is one guide in front of one editor; a new system is a new file here, or only a new config.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from PIL import Image

    from mgie_lit.prompts import RowBuilder
    from mgie_lit.types import Condition, EditBatch, EditExample, GuideLosses


class Guide(Protocol):
    """What an editor asks of a guide; guides are ``nn.Module``s.

    One that sees the image also has an ``image_processor``: RGB images -> ``EditBatch.mllm_pixels``.
    """

    prompt: RowBuilder  # makes the ids of ``EditBatch``

    @property
    def sees_image(self) -> bool:
        """Whether the guide itself looks at the source image."""
        ...

    def losses(self, batch: EditBatch) -> GuideLosses:
        """Condition of a training batch (teacher forced) and the guide's own losses."""
        ...

    def condition(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> Condition:
        """Condition of RGB images and instructions at inference; no gradient."""
        ...

    def words(self, example: EditExample) -> str:
        """Which of an example's texts ``condition`` is asked with."""
        ...


class Writer(Protocol):
    """Makes expressive instructions for a guide that reads them."""

    def express(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> list[str]:
        """What the results look like, in words, for RGB images and instructions."""
        ...
