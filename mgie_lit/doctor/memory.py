"""Bytes that each process of a training needs on its device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from mgie_lit.doctor.dry_run import DryRun
    from mgie_lit.doctor.precision import Precision
    from mgie_lit.editor import Editor

NUM_MOMENTS = 2  # AdamW: running means of the gradient and of its square
USABLE = (
    0.92  # share of a GPU's memory that a training can have; a rule of thumb for context, workspaces, fragmentation
)


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """What one process holds, in bytes."""

    weights: int  # all parameters and buffers in the type that they have during the training
    gradients: int  # of what trains, in the weights' type
    optimizer: int  # AdamW's two moments of what trains, in the weights' type
    buckets: int  # DDP's copies of the gradients, for the exchange between processes
    activations: int  # kept for the backward (`dry_run`)
    temporary: int  # further results that are alive while most is (`dry_run`)
    update: int  # AdamW on a GPU works on all tensors at once: one more copy of what trains, after the backward

    @property
    def total(self) -> int:
        """The larger of two moments: early in the backward, and the optimizer's update.

        All gradients count in both. That is so from the second of several accumulated batches on; where there is one
        batch a step, most of the gradients do not exist yet when most activations do, and the total is a little high.
        """
        held = self.weights + self.gradients + self.optimizer + self.buckets
        return held + max(self.activations + self.temporary, self.update)


def tensor_bytes(editor: Editor, precision: Precision) -> tuple[int, int]:
    """Bytes of all weights and buffers, and of those weights that train, in the types of a training."""
    total = trainable = 0
    for tensor in (*editor.parameters(), *editor.buffers()):
        num_bytes = tensor.numel() * precision.of_weights(tensor.dtype).itemsize
        total += num_bytes
        trainable += num_bytes * (isinstance(tensor, torch.nn.Parameter) and tensor.requires_grad)
    return total, trainable


def estimate_memory(weights: int, trainable: int, run: DryRun, *, num_processes: int, is_cuda: bool) -> MemoryEstimate:
    """Memory of one process.

    With ``n`` numbers of ``b`` bytes each: weights ``sum n b`` over all tensors, gradients the same over what trains,
    optimizer twice that, DDP's buckets once (only with several processes), activations and temporary results from the
    dry run. Mixed precision changes the activations alone: weights, gradients and moments stay float32.

    Args:
        weights: Bytes of all tensors, from `tensor_bytes`.
        trainable: Bytes of those that train.
        run: Of the same editor and precision.
        num_processes: Of the whole training.
        is_cuda: Whether the device is a CUDA GPU.

    Returns:
        The estimate.
    """
    return MemoryEstimate(
        weights=weights,
        gradients=trainable,
        optimizer=NUM_MOMENTS * trainable,
        buckets=trainable if num_processes > 1 else 0,
        activations=run.kept_total,
        temporary=run.peak - run.kept_total,
        update=trainable if is_cuda else 0,
    )


def checkpoint_bytes(editor: Editor, precision: Precision, left_out: tuple[str, ...]) -> int:
    """Size of one checkpoint: weights and AdamW's moments.

    Args:
        editor: What trains is what ``requires_grad`` says.
        precision: Of the training.
        left_out: Name prefixes of parts whose frozen weights can be loaded again and are not stored.

    Returns:
        Bytes; the few that hold step, config and loop state are not counted.
    """
    total = 0
    for name, parameter in editor.named_parameters():
        num_bytes = parameter.numel() * precision.of_weights(parameter.dtype).itemsize
        if parameter.requires_grad:
            total += (1 + NUM_MOMENTS) * num_bytes
        elif not any(name.startswith(f"{prefix}.") for prefix in left_out):
            total += num_bytes
    return total
