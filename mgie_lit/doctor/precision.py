"""Lightning's ``trainer.precision`` as number types."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from mgie_lit.errors import ConfigError

_DTYPES = {"16": torch.float16, "bf16": torch.bfloat16, "32": torch.float32, "64": torch.float64}
_SPELLINGS = {"16": "16-mixed", "bf16": "bf16-mixed", "32": "32-true", "64": "64-true"}


@dataclass(frozen=True, slots=True)
class Precision:
    """Number types of a training."""

    name: str  # as Lightning calls it
    weights: torch.dtype | None  # that all weights are converted to; None = they stay as they are
    autocast: torch.dtype | None  # that matrix products are computed in where the weights have another type

    @property
    def computes_in(self) -> torch.dtype:
        """Type of the matrix products."""
        return self.autocast or self.weights or torch.float32

    def of_weights(self, dtype: torch.dtype) -> torch.dtype:
        """What a tensor of the model has once the training has begun."""
        return self.weights if self.weights is not None and dtype.is_floating_point else dtype


def parse_precision(value: str | int | None) -> Precision:
    """What ``trainer.precision`` means.

    Args:
        value: ``32-true``, ``bf16-mixed``, ``bf16-true``, ``16-mixed`` and so on; None = ``32-true``.

    Returns:
        Number types; under ``*-mixed`` the weights stay what they are, and so do gradients and optimizer states.

    Raises:
        ConfigError: It is none that the estimate knows.
    """
    name = _SPELLINGS.get(str(value), "32-true" if value is None else str(value))
    number, _, kind = name.partition("-")
    if number not in _DTYPES or kind not in ("true", "mixed") or (kind == "mixed" and number not in ("16", "bf16")):
        raise ConfigError(
            f"trainer.precision: expected 32-true, bf16-mixed, bf16-true, 16-mixed, 16-true or 64-true, got {value}"
        )
    dtype = _DTYPES[number]
    if kind == "mixed":
        return Precision(name, weights=None, autocast=dtype)
    return Precision(name, weights=None if dtype == torch.float32 else dtype, autocast=None)
