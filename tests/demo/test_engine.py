from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from mgie_lit.demo.engine import Engine, Job, Progress, QueueFullError, StoppedError


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(max_waiting=2)
    yield engine
    engine.close()


class Gate:
    """Work that waits until it may go on, checking all the time."""

    def __init__(self) -> None:
        self.started, self.may_end = threading.Event(), threading.Event()

    def __call__(self, job: Job[str]) -> str:
        self.started.set()
        while not self.may_end.wait(0.001):
            job.check()
        return "done"


def test_jobs_run_one_at_a_time_in_order(engine: Engine) -> None:
    order: list[str] = []
    gate = Gate()
    first = engine.submit(gate)
    assert gate.started.wait(5)
    others = [engine.submit(lambda _, name=name: order.append(name)) for name in "ab"]
    assert [job.progress for job in others] == [Progress(ahead=1, text="Waiting"), Progress(ahead=2, text="Waiting")]
    assert order == []
    gate.may_end.set()
    assert first.result(5) == "done"
    for job in others:
        job.result(5)
    assert order == ["a", "b"]


def test_full_queue_says_so_and_takes_nothing(engine: Engine) -> None:
    gate = Gate()
    engine.submit(gate)
    assert gate.started.wait(5)
    waiting = [engine.submit(lambda _: None) for _ in range(2)]
    with pytest.raises(
        QueueFullError, match=r"queue is full: 2 jobs wait already\. Your request was not taken; try again"
    ):
        engine.submit(lambda _: None)
    waiting[0].stop()  # one that was stopped makes room
    with pytest.raises(StoppedError):  # at once, though another runs
        waiting[0].result(0)
    again = engine.submit(lambda _: "in")
    gate.may_end.set()
    assert again.result(5) == "in"


def test_stop_ends_running_work_and_the_next_goes_on(engine: Engine) -> None:
    gate = Gate()
    job = engine.submit(gate)
    assert gate.started.wait(5)
    job.stop()
    with pytest.raises(StoppedError):
        job.result(5)
    assert engine.submit(lambda _: 3).result(5) == 3


def test_error_goes_to_who_asks_and_the_engine_lives(engine: Engine) -> None:
    def fail(_: Job[None]) -> None:
        raise KeyError("broken")

    with pytest.raises(KeyError, match="broken"):
        engine.submit(fail).result(5)
    assert engine.submit(lambda _: 1).result(5) == 1


def test_follow_gives_progress_and_stops_a_job_nobody_listens_to(engine: Engine) -> None:
    gate, other = Gate(), Gate()

    def work(job: Job[str]) -> str:
        job.report("Step 1 of 2", 1, 2)
        return gate(job)

    async def listen() -> tuple[Progress, Job[str]]:
        job = engine.submit(work)
        async for progress in job.follow():
            if progress.total:
                return progress, job
        raise AssertionError("ended without progress")

    progress, job = asyncio.run(listen())
    assert (progress.done, progress.total) == (1, 2)
    with pytest.raises(StoppedError):
        job.result(5)
    assert not other.started.is_set()


def test_result_does_not_wait_for_ever(engine: Engine) -> None:
    job = engine.submit(Gate())
    with pytest.raises(TimeoutError, match="has not ended"):
        job.result(0.01)


def test_close_stops_everything() -> None:
    engine = Engine(max_waiting=2)
    gate = Gate()
    running = engine.submit(gate)
    assert gate.started.wait(5)
    waiting = engine.submit(lambda _: 1)
    start = time.monotonic()
    engine.close()
    assert time.monotonic() - start < 5
    for job in (running, waiting):
        with pytest.raises(StoppedError):
            job.result(0)
