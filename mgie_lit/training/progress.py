"""Where a training stands, whatever the number of processes and the size of their batches."""

from __future__ import annotations

from typing import Any


def recount_batches(checkpoint: dict[str, Any], *, before: int, after: int) -> None:
    """Let the trainer's counters of batches say the same place in batches of another size.

    Steps, epochs and rates are counted in optimizer steps and need no change.

    Args:
        checkpoint: Lightning's, changed in place; written between two optimizer steps.
        before: Examples of a batch over all processes when it was written.
        after: Now.
    """
    if before == after:
        return
    progress = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]
    for counts in (progress["total"], progress["current"]):
        unfinished = {name: counts["ready"] - counts[name] for name in counts}  # the batch that was being ended
        ready = counts["ready"] * before // after
        counts.update({name: ready - unfinished[name] for name in counts})


def begin_epoch_once(checkpoint: dict[str, Any]) -> None:
    """Let the trainer's counter of epochs say that the one it is in has begun.

    A training that goes on at the end of an epoch does not count the beginning of the next one. Resumed again at the
    end of an epoch it would repeat its number, and with it order and draws.

    Args:
        checkpoint: Lightning's, changed in place.
    """
    for counts in checkpoint["loops"]["fit_loop"]["epoch_progress"].values():
        if counts["processed"] == counts["completed"]:  # in the middle of an epoch
            counts["ready"] = counts["started"] = counts["completed"] + 1
