"""Frozen matrices in the number type that mixed precision converts them to anyway."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import nn

_CONVERTED = (
    nn.Linear,
    nn.Conv1d,
    nn.Conv2d,
)  # autocast converts weights and biases of these, whatever they are used on


def lower_frozen(module: nn.Module, names: Collection[str], dtype: torch.dtype = torch.bfloat16) -> list[str]:
    """Convert float32 matrices once instead of in every step, in place.

    Under autocast to ``dtype`` results are equal to the last bit, because autocast would make the same copy. What it
    leaves in float32 stays so: norms, tables of embeddings. Outside of autocast the module can no longer be used.

    Args:
        module: On any device.
        names: Parameters that may be converted; they lose bits, so all of them can be loaded again.
        dtype: That autocast computes in.

    Returns:
        Names of what was converted, in the module's order.

    Raises:
        ValueError: One of them trains.
    """
    frozen = {name: parameter for name, parameter in module.named_parameters() if name in names}
    if trained := [name for name, parameter in frozen.items() if parameter.requires_grad]:
        raise ValueError(f"names: expected frozen parameters, got {trained[0]}, which trains")
    owners = [(id(own), part) for part in module.modules() for own in part.parameters(recurse=False)]
    elsewhere = {key for key, part in owners if not isinstance(part, _CONVERTED)}
    lowered = [name for name, own in frozen.items() if own.dtype == torch.float32 and id(own) not in elsewhere]
    for name in lowered:
        frozen[name].data = frozen[name].data.to(dtype)
    return lowered
