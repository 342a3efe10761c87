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
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

    from mgie_lit.editor import Editor

LOG = logging.getLogger(__name__)
BF16_MIXED = "bf16-mixed"
_VARIANTS = 8  # of a block's code, for each size of batch and image and without gradient; the compiler's own number


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
            usual = sorted(
                {*torch.compiler.list_backends(), "aot_eager", "eager"}
            )  # others are the compiler's own tests
            raise ConfigError(
                f"compute.compile_unet: expected null or one of {', '.join(usual)}, got {self.compile_unet}"
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
            _compile_blocks(editor.unet, self.compile_unet)


def _compile_blocks(unet: UNet2DConditionModel, backend: str) -> None:
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    # Blocks of one class share their code. The compiler gives up on code that it has compiled so many times, and the
    # last blocks would run as they are once there were smaller batches and validations; and it would take the blocks'
    # sizes for one that changes, for which its code is slower, or not to be had (inductor on a CPU).
    config = torch._dynamo.config
    config.cache_size_limit = max(config.cache_size_limit, _VARIANTS * len(blocks))
    for block in blocks:
        block.compile(backend=backend, dynamic=False)


AS_IT_IS = Compute(frozen_in_bf16=False)
