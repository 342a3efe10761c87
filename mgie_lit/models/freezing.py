"""Which parameters train: name patterns -> ``requires_grad``."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import nn


def set_trainable(module: nn.Module, patterns: Sequence[str]) -> list[str]:
    """Let exactly the parameters train whose name matches a pattern, and freeze the rest.

    A module with ``idle_patterns`` names parameters of its own that no output depends on; they never train, so that
    every trainable parameter has a gradient in every step.

    Args:
        module: Changed in place; a frozen parameter's gradient is dropped.
        patterns: Shell patterns on full parameter names, e.g. ``unet.*`` or ``*.embed_tokens.*``; ``*`` = all.

    Returns:
        Names that train, in the module's order.

    Raises:
        ValueError: A pattern matches no parameter; the message names it.
    """
    names = [name for name, _ in module.named_parameters()]
    for pattern in patterns:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise ValueError(f"trainable: pattern {pattern!r} matches no parameter; names look like {names[0]!r}")
    idle = _idle_patterns(module)
    trainable = {name for name in names if _matches(name, patterns) and not _matches(name, idle)}
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name in trainable)
        if name not in trainable:
            parameter.grad = None
    return [name for name in names if name in trainable]


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _idle_patterns(module: nn.Module) -> list[str]:
    return [
        f"{prefix}.{pattern}" if prefix else pattern
        for prefix, part in module.named_modules()
        for pattern in getattr(part, "idle_patterns", [])
    ]


def is_frozen(module: nn.Module) -> bool:
    """Whether no parameter of a module trains (true for one without parameters)."""
    return not any(parameter.requires_grad for parameter in module.parameters())


def frozen_roots(module: nn.Module) -> list[nn.Module]:
    """The largest submodules whose parameters are all frozen: they stay in eval mode during training.

    A module without parameters, such as dropout, goes with the module that holds it.
    """
    if is_frozen(module):
        return [module] if any(True for _ in module.parameters()) else []
    return [root for child in module.children() for root in frozen_roots(child)]
