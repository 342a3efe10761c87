"""How a training step is computed: switches for memory and speed that leave the training what it is."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mgie_lit.errors import ConfigError
from mgie_lit.models.lowering import lower_frozen
from mgie_lit.models.recompute import recompute_layers

if TYPE_CHECKING:
    from mgie_lit.editor import Editor

LOG = logging.getLogger(__name__)
BF16_MIXED = "bf16-mixed"


@dataclass(frozen=True, slots=True)
class Compute:
    """Switches of a training step.

    Raises:
        ConfigError: ``compile_unet`` is no backend of ``torch.compile``.
    """

    frozen_in_bf16: bool = True  # under bf16-mixed: frozen matrices that can be loaded again
    checkpoint_language_model: bool = False  # layers keep their inputs alone
    checkpoint_unet: bool = False  # blocks keep their inputs alone
    compile_unet: str | None = None  # backend of torch.compile

    def __post_init__(self) -> None:
        """Check the backend."""
        if self.compile_unet is None:
            return
        known = torch.compiler.list_backends(exclude_tags=())  # loads the compiler
        if self.compile_unet not in known:
            raise ConfigError(
                f"compute.compile_unet: expected null or one of {', '.join(sorted(known))}, got {self.compile_unet}"
            )

    def arrange(self, editor: Editor) -> None:
        """What needs no device: let layers compute again what they do not keep.

        Args:
            editor: Changed in place; names and weights stay.

        Raises:
            ConfigError: There is no language model.
        """
        if self.checkpoint_language_model:
            mllm = getattr(editor.guide, "mllm", None)
            if mllm is None:
                raise ConfigError(
                    "compute.checkpoint_language_model: expected a system with a language model, got "
                    f"{type(editor.guide).__name__}; use false"
                )
            recompute_layers(mllm)
        if self.checkpoint_unet:
            editor.unet.enable_gradient_checkpointing()

    def lowers(self, precision: str) -> bool:
        """Whether frozen matrices are converted under Lightning's name of a precision."""
        return self.frozen_in_bf16 and precision == BF16_MIXED

    def begin(self, editor: Editor, reloadable: Collection[str], precision: str) -> None:
        """What is done when a training begins, with its weights loaded and compared.

        Args:
            editor: Changed in place; names stay.
            reloadable: Frozen parameters that no checkpoint holds.
            precision: As Lightning calls it.
        """
        if self.lowers(precision):
            lowered = lower_frozen(editor, reloadable)
            LOG.info("compute.frozen_in_bf16: %d of %d frozen tensors", len(lowered), len(reloadable))
        if self.compile_unet is not None:
            for block in (*editor.unet.down_blocks, editor.unet.mid_block, *editor.unet.up_blocks):
                block.compile(backend=self.compile_unet)


AS_IT_IS = Compute(frozen_in_bf16=False)
