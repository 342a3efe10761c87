"""One thread that does one job after another, so that a device never holds two; a bounded queue in front of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mgie_lit.errors import MGIEError

LOG = logging.getLogger(__name__)
LOOK_SECONDS = 0.1  # how often a page looks at its job
Result = TypeVar("Result")


class QueueFullError(MGIEError):
    """More jobs wait already than may wait."""


class StoppedError(MGIEError):
    """A job was stopped by who asked for it."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a job stands."""

    ahead: int = 0  # jobs before it; 0 = it runs
    text: str = "Starting"  # what is done
    done: int = 0
    total: int = 0  # 0 = unknown


@dataclass(eq=False)
class Job(Generic[Result]):
    """A piece of work that waits, runs, or has ended."""

    work: Callable[[Job[Result]], Result]
    progress: Progress = field(default_factory=Progress)
    parts: list[Any] = field(default_factory=list)  # of the result, as they are made
    _result: Result | None = None
    _error: BaseException | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _begun: threading.Lock = field(default_factory=threading.Lock)  # taken once
    _ended: threading.Event = field(default_factory=threading.Event)

    @property
    def has_ended(self) -> bool:
        """Whether it is done, failed or stopped."""
        return self._ended.is_set()

    def stop(self) -> None:
        """Ask it to end: at once while it waits, else where its work next calls `check`."""
        self._stop.set()
        self.run()  # where it has begun already, this does nothing

    def check(self) -> None:
        """Called by the work, often.

        Raises:
            StoppedError: The job is to end.
        """
        if self._stop.is_set():
            raise StoppedError("stopped")

    def report(self, text: str, done: int = 0, total: int = 0) -> None:
        """Called by the work: say what is done, and end if the job was stopped.

        Args:
            text: What is done now.
            done: Parts that are finished.
            total: Parts in all; 0 = unknown.
        """
        self.check()
        self.progress = Progress(0, text, done, total)

    def result(self, timeout: float | None = None) -> Result:
        """Wait for the end.

        Args:
            timeout: Longest wait in seconds; None = no bound.

        Returns:
            What the work gave.

        Raises:
            TimeoutError: It has not ended.
            StoppedError: It was stopped; any other error is the work's own.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError("the job has not ended")
        if self._error is not None:
            raise self._error
        return self._result  # type: ignore[return-value]

    async def follow(self) -> AsyncIterator[Progress]:
        """Progress whenever it changes, until the job has ended; who stops listening stops the job."""
        seen: tuple[Progress, int] | None = None
        try:
            while not self.has_ended:
                if seen != (now := (self.progress, len(self.parts))):
                    seen = now
                    yield self.progress
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            self.stop()

    def run(self) -> None:
        """Do the work, once; errors are kept for who asks for the result."""
        if not self._begun.acquire(blocking=False):
            return
        try:
            self.check()
            self._result = self.work(self)
        except BaseException as error:  # nothing may end the engine's thread
            self._error = error
        finally:
            self._ended.set()


class Engine:
    """Runs jobs one at a time, in the order in which they came.

    Args:
        max_waiting: Jobs that may wait, the running one not counted.
    """

    def __init__(self, max_waiting: int) -> None:
        self.max_waiting = max_waiting
        self._waiting: deque[Job[Any]] = deque()
        self._running: Job[Any] | None = None
        self._changed = threading.Condition()
        self._is_open = True
        self._thread = threading.Thread(target=self._run, name="mgie-demo-engine", daemon=True)
        self._thread.start()

    def submit(self, work: Callable[[Job[Result]], Result]) -> Job[Result]:
        """Put work into the queue.

        Args:
            work: Called with its job in the engine's thread; it reports progress there and checks whether to go on.

        Returns:
            The job.

        Raises:
            QueueFullError: Too many wait already.
        """
        job = Job(work)
        with self._changed:
            self._waiting = deque(job for job in self._waiting if not job.has_ended)  # stopped ones make room
            if len(self._waiting) >= self.max_waiting:
                raise QueueFullError(
                    f"The queue is full: {self.max_waiting} jobs wait already. Your request was not taken; try again "
                    "in a moment."
                )
            self._waiting.append(job)
            self._count()
            self._changed.notify_all()
        return job

    def close(self) -> None:
        """Stop everything, and wait for the thread to end."""
        with self._changed:
            self._is_open = False
            for job in (*self._waiting, *([self._running] if self._running else [])):
                job.stop()
            self._changed.notify_all()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._running = None
                while not self._waiting and self._is_open:
                    self._changed.wait()
                if not self._waiting:
                    return
                self._running = job = self._waiting.popleft()
                self._count()
            if not job.has_ended:
                job.progress = Progress()
                job.run()

    def _count(self) -> None:
        for index, job in enumerate(self._waiting):
            job.progress = Progress(ahead=index + (self._running is not None), text="Waiting")
