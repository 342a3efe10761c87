"""How a training step is computed: switches for memory and speed that leave the training what it is."""

from __future__ import annotations

import json
import logging
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from mgie_lit.errors import ConfigError
from mgie_lit.models.lowering import lower_frozen
from mgie_lit.models.training_layers import compile_layers, recompute_layers
from mgie_lit.training.compiling import check_backend, compile_blocks, start_workers

if TYPE_CHECKING:
    from mgie_lit.editor import Editor

LOG = logging.getLogger(__name__)
BF16_MIXED = "bf16-mixed"
INDUCTOR = "inductor"


@dataclass(frozen=True, slots=True)
class Compute:
    """Switches of a training step.

    Raises:
        ConfigError: A backend is none of ``torch.compile``.
    """

    frozen_in_bf16: bool = True  # under bf16-mixed: frozen matrices that can be loaded again
    checkpoint_language_model: bool = False  # layers keep their inputs alone
    checkpoint_unet: bool = False  # blocks keep their inputs alone
    compile_language_model: str | None = None  # backend of torch.compile
    compile_unet: str | None = None  # the same

    def __post_init__(self) -> None:
        """Check the backends."""
        for part, backend in self.backends.items():
            check_backend(f"compute.compile_{part}", backend)

    @property
    def backends(self) -> dict[str, str]:
        """Of what is compiled."""
        parts = {"language_model": self.compile_language_model, "unet": self.compile_unet}
        return {part: backend for part, backend in parts.items() if backend is not None}

    def arrange(self, editor: Editor) -> None:
        """What needs no device: let layers compute again what they do not keep.

        Args:
            editor: Changed in place; names and weights stay.

        Raises:
            ConfigError: There is no language model.
        """
        mllm = getattr(editor.guide, "mllm", None)
        if mllm is None:
            self._check_no_language_model(editor)
        elif self.checkpoint_language_model:
            recompute_layers(mllm)
        if getattr(editor.guide, "train_embeddings", "all") == "new_rows":
            self._warn_of_new_rows()
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
        if INDUCTOR in self.backends.values() and torch.cuda.is_available():
            start_workers()
        if self.compile_language_model is not None:
            compile_layers(editor, self.compile_language_model)
        if self.compile_unet is not None:
            compile_blocks(editor.unet, self.compile_unet)

    def _warn_of_new_rows(self) -> None:
        for key in ("checkpoint_language_model", "compile_language_model"):
            if getattr(self, key):
                LOG.warning(
                    "compute.%s: has no effect with model.guide.train_embeddings=new_rows, where the language model's "
                    "passes have no gradient or a cache",
                    key,
                )

    def _check_no_language_model(self, editor: Editor) -> None:
        for key, off in {"checkpoint_language_model": False, "compile_language_model": None}.items():
            if getattr(self, key) != off:
                raise ConfigError(
                    f"compute.{key}: expected a system with a language model, got {type(editor.guide).__name__}; use "
                    f"{json.dumps(off)}"
                )


AS_IT_IS = Compute(frozen_in_bf16=False)
