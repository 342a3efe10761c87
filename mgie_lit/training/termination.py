"""SIGTERM in a training: noted, agreed on by all processes, acted on between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

import lightning
import torch
from torch import distributed

TERMINATED = 128 + signal.SIGTERM  # exit status of a run that was asked to end, and did


class Termination:
    """Whether this training was asked to end.

    Every process has to stop after the same step. They ask each other while the next batch is computed, over a group
    of their own on the CPU: nobody waits for a device, and the answer is one batch old.
    """

    def __init__(self) -> None:
        self._is_asked = False
        self._previous_handler: Any = None
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def listen(self, trainer: lightning.Trainer) -> None:
        """Take SIGTERM over from Lightning, whose handler talks to other processes from within.

        Args:
            trainer: All of its processes call this.
        """
        if threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._note)
        self._is_asked = trainer.received_sigterm
        trainer._signal_connector.received_sigterm = False
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")
            # Lightning's own question, in every batch: a broadcast whose answer it waits for on the device.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def agreed(self) -> bool:
        """Whether some process had been asked when the batch before this one ended; the same answer in all of them."""
        if self._group is None:
            return self._is_asked
        answer = self._answer()
        question = torch.tensor(int(self._is_asked))
        work = distributed.all_reduce(question, distributed.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (work, question)
        return answer

    def close(self) -> None:
        """Give the signal back; whoever asked last is answered."""
        if self._previous_handler is not None:
            signal.signal(signal.SIGTERM, self._previous_handler)
            self._previous_handler = None

    def finish(self) -> None:
        """Wait for the last question, where all processes have come to their end."""
        self._answer()

    def _answer(self) -> bool:
        if self._pending is None:
            return False
        work, question = self._pending
        self._pending = None
        work.wait()
        return bool(question)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._is_asked = True
