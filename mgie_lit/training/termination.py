"""SIGTERM and Ctrl-C in a training: noted, agreed on by all processes, acted on between two steps."""

from __future__ import annotations

import os
import signal
import threading
import time
from types import FrameType
from typing import Any

import lightning
import torch
from torch import distributed

TERMINATED, INTERRUPTED = 128 + signal.SIGTERM, 128 + signal.SIGINT  # exit status of who was asked to end, and did
IMPATIENCE_SECONDS = 1.0  # after which another Ctrl-C means "now"; the first may arrive twice
_NOTED = b"\nInterrupted: saving a checkpoint after this step; Ctrl-C again ends at once, without one.\n"


class Termination:
    """Whether this training was asked to end, and by which signal.

    Every process has to stop after the same step. They ask each other while the next batch is computed, over a group
    of their own on the CPU: nobody waits for a device, and the answer is one batch old.
    """

    def __init__(self) -> None:
        self._asked = 0  # number of the signal; 0 = none came
        self._time = 0.0
        self._previous_handlers: dict[int, Any] = {}
        self._group: Any = None
        self._pending: tuple[Any, torch.Tensor] | None = None

    def listen(self, trainer: lightning.Trainer) -> None:
        """Take SIGTERM over from Lightning, whose handler talks to other processes from within, and Ctrl-C.

        A process that was started to ignore Ctrl-C goes on to.

        Args:
            trainer: All of its processes call this.
        """
        if threading.current_thread() is threading.main_thread():
            self._previous_handlers[signal.SIGTERM] = signal.signal(signal.SIGTERM, self._note)
            if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
                self._previous_handlers[signal.SIGINT] = signal.signal(signal.SIGINT, self._note_interrupt)
        self._asked = signal.SIGTERM if trainer.received_sigterm else 0
        trainer._signal_connector.received_sigterm = False
        if trainer.world_size > 1:
            self._group = distributed.new_group(backend="gloo")
            # Lightning's own question, in every batch: a broadcast whose answer it waits for on the device.
            trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]

    def agreed(self) -> int:
        """Exit status of who was asked to end, 0 = nobody, when the batch before this one ended; the same in all."""
        if self._group is None:
            return _status(self._asked)
        answer = self._answer()
        question = torch.tensor(int(self._asked))
        work = distributed.all_reduce(question, distributed.ReduceOp.MAX, group=self._group, async_op=True)
        self._pending = (work, question)
        return _status(answer)

    def close(self) -> None:
        """Give the signals back; whoever asked last is answered."""
        for signum, handler in self._previous_handlers.items():
            signal.signal(signum, handler)
        self._previous_handlers.clear()

    def finish(self) -> None:
        """Wait for the last question, where all processes have come to their end."""
        self._answer()

    def _answer(self) -> int:
        if self._pending is None:
            return 0
        work, question = self._pending
        self._pending = None
        work.wait()
        return int(question)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self._asked = signum

    def _note_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._asked == signum:
            if time.monotonic() - self._time > IMPATIENCE_SECONDS:
                raise KeyboardInterrupt
            return
        self._asked, self._time = self._asked or signum, time.monotonic()
        os.write(2, _NOTED)  # no buffer: one may be in the middle of it


def _status(signum: int) -> int:
    return 128 + signum if signum else 0
