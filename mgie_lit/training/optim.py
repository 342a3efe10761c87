"""Optimizer with a rate for every part, and learning-rate schedules."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from typing import cast

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR

from mgie_lit.errors import ConfigError

# First match wins; names are those of ``Editor.named_parameters``.
PARAMETER_GROUPS = (
    ("embeddings", "guide.mllm.*.embed_tokens.*"),
    ("lm_head", "guide.mllm.*.lm_head.*"),
    ("mllm", "guide.mllm.*"),
    ("edit_head", "guide.edit_head.*"),
    ("text_encoder", "guide.text_encoder.*"),
    ("unet", "unet.*"),
    ("other", "*"),
)


_FUSED_DEVICES = ("cpu", "cuda", "mps")


def parameter_group(name: str) -> str:
    """Which group of ``PARAMETER_GROUPS`` a parameter belongs to.

    >>> parameter_group("guide.mllm.language_model.model.embed_tokens.weight")
    'embeddings'
    """
    return next(group for group, pattern in PARAMETER_GROUPS if fnmatchcase(name, pattern))


def adamw(
    named_parameters: Iterable[tuple[str, nn.Parameter]],
    *,
    lr: float,
    lr_scale: Mapping[str, float],
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    fused: bool = True,
) -> torch.optim.AdamW:
    """AdamW over the parameters that train, one group a part, each with its own multiple of the base rate.

    Args:
        named_parameters: Of the editor; frozen ones are left out.
        lr: Base learning rate at its peak.
        lr_scale: Factor by group name of ``PARAMETER_GROUPS``; 1 where not given.
        betas: Decay of the two moments, each in [0, 1).
        eps: Added to the root of the second moment.
        weight_decay: Decoupled decay per step, times the rate.
        fused: One kernel a tensor instead of one an operation, where the devices have it; differs by rounding alone.

    Returns:
        Groups in the order of ``PARAMETER_GROUPS``, each with a ``name``; empty ones are left out.

    Raises:
        ConfigError: ``lr_scale`` names a group that does not exist (the message lists the known ones), or ``betas`` are
            out of their range.
    """
    known = [group for group, _ in PARAMETER_GROUPS]
    if unknown := sorted(set(lr_scale) - set(known)):
        raise ConfigError(f"optimizer.lr_scale: expected some of {', '.join(known)}, got {', '.join(unknown)}")
    if len(betas) != 2 or not all(0 <= beta < 1 for beta in betas):
        raise ConfigError(f"optimizer.betas: expected 2 numbers >= 0 and < 1, got {', '.join(map(str, betas))}")
    members: dict[str, list[nn.Parameter]] = {}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            members.setdefault(parameter_group(name), []).append(parameter)
    groups = [
        {"params": members[name], "lr": lr * lr_scale.get(name, 1.0), "name": name} for name in known if name in members
    ]
    pair = cast("tuple[float, float]", tuple(betas))  # a config gives a list
    has_kernel = all(tensor.device.type in _FUSED_DEVICES for group in members.values() for tensor in group)
    return torch.optim.AdamW(
        groups, lr=lr, betas=pair, eps=eps, weight_decay=weight_decay, fused=True if fused and has_kernel else None
    )


def warmup_cosine(
    optimizer: torch.optim.Optimizer, *, num_steps: int, warmup_ratio: float = 0.03, final_ratio: float = 0.0
) -> LambdaLR:
    """Linear warm-up from zero, then half a cosine down (the schedule of ml-mgie: 3 % warm-up, to zero).

    Args:
        optimizer: Its rates are the peaks.
        num_steps: Optimizer steps of the whole training.
        warmup_ratio: Share of the steps that warms up.
        final_ratio: Rate at the end, as a share of the peak.

    Returns:
        The schedule, moved once a step.
    """
    warmup = math.ceil(num_steps * warmup_ratio)

    def factor(step: int) -> float:
        if step < warmup:
            return step / warmup
        progress = min(1.0, (step - warmup) / max(1, num_steps - warmup))
        return final_ratio + (1.0 - final_ratio) * 0.5 * (1.0 + math.cos(math.pi * progress))

    return LambdaLR(optimizer, factor)


def warmup_hold_linear(
    optimizer: torch.optim.Optimizer,
    *,
    num_steps: int,
    warmup_steps: int = 50,
    hold_ratio: float = 0.5,
    final_ratio: float = 0.02,
) -> LambdaLR:
    """Linear warm-up, constant for a share of the training, then linear down: short trainings from scratch.

    Args:
        optimizer: Its rates are the peaks.
        num_steps: Optimizer steps of the whole training.
        warmup_steps: Steps that warm up; 0 = none.
        hold_ratio: Share of the steps before the rate falls; 1 = it never does.
        final_ratio: Rate at the end, as a share of the peak.

    Returns:
        The schedule, moved once a step.
    """
    fall_ratio = 1.0 - hold_ratio

    def factor(step: int) -> float:
        progress = max(0.0, step / num_steps - hold_ratio) / fall_ratio if fall_ratio > 0 else 0.0
        return min((step + 1) / max(1, warmup_steps), 1.0 - (1.0 - final_ratio) * min(1.0, progress))

    return LambdaLR(optimizer, factor)
