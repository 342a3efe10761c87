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
