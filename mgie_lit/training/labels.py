"""One mean over the labels of all processes, so that several processes minimise what one would."""

from __future__ import annotations

from dataclasses import replace

from torch import distributed

from mgie_lit.types import EditBatch
from mgie_lit.vocabulary import IGNORE_INDEX


def share_label_mean(batch: EditBatch) -> EditBatch:
    """Let the instruction loss divide by the mean number of labels over the processes.

    DDP averages gradients over the processes, so the sum of their losses, each divided by this mean, is the loss of
    one process on all the batches. One number goes between the processes, without waiting for the device.

    Args:
        batch: Of this process; its ``labels_per_batch`` is the mean over the batches of the step, if there are several.

    Returns:
        The batch with the mean over processes and batches; the same batch in a training of one process.
    """
    if not (distributed.is_available() and distributed.is_initialized() and distributed.get_world_size() > 1):
        return batch
    mean = batch.labels_per_batch
    if mean is None:
        mean = (batch.labels != IGNORE_INDEX).sum().float()
    mean = mean.clone()
    distributed.all_reduce(mean)
    return replace(batch, labels_per_batch=mean / distributed.get_world_size())
