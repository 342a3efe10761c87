from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import distributed, multiprocessing

from mgie_lit.training.termination import Termination


def trainer(world_size: int) -> Any:  # noqa: ANN401
    loop = SimpleNamespace(_broadcast_sigterm_tensor=None)
    connector = SimpleNamespace(received_sigterm=False)
    fit_loop = SimpleNamespace(epoch_loop=loop)
    return SimpleNamespace(
        world_size=world_size, received_sigterm=False, _signal_connector=connector, fit_loop=fit_loop
    )


def test_one_process_knows_at_once_and_gives_the_signal_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    termination = Termination()
    termination.listen(trainer(1))
    assert termination.agreed() == 0
    os.kill(os.getpid(), signal.SIGTERM)
    assert termination.agreed() == 143
    termination.finish()
    termination.close()
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.fixture
def listening() -> Iterator[Termination]:
    """In a process that Ctrl-C reaches, also where a shell started the tests in its background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    termination = Termination()
    termination.listen(trainer(1))
    yield termination
    termination.close()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_asks_and_a_second_one_ends_at_once(
    listening: Termination, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("mgie_lit.training.termination.time.monotonic", lambda: now)
    os.kill(os.getpid(), signal.SIGINT)
    assert listening.agreed() == 130
    assert "Ctrl-C again ends at once" in capfd.readouterr().err
    now += 0.5
    os.kill(os.getpid(), signal.SIGINT)  # the first, a second time
    now += 1
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_process_that_ignores_ctrl_c_goes_on_to() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    termination = Termination()
    termination.listen(trainer(1))
    os.kill(os.getpid(), signal.SIGINT)
    assert termination.agreed() == 0
    termination.close()
    signal.signal(signal.SIGINT, before)


def rank_main(rank: int, port: int, answers: Any) -> None:  # noqa: ANN401
    torch.set_num_threads(1)
    address = f"tcp://127.0.0.1:{port}"
    distributed.init_process_group("gloo", init_method=address, rank=rank, world_size=2)
    termination = Termination()
    termination.listen(trainer(2))
    seen = []
    for batch in range(4):
        if (rank, batch) == (1, 1):
            os.kill(os.getpid(), signal.SIGTERM)
        seen.append(termination.agreed())
    termination.finish()
    answers.put((rank, seen))
    distributed.barrier()
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_agree_one_batch_later() -> None:
    from mgie_lit.cli.launch import _free_port

    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    port = _free_port()
    ranks = [context.Process(target=rank_main, args=(rank, port, answers)) for rank in range(2)]
    for process in ranks:
        process.start()
    seen = dict(answers.get(timeout=60) for _ in ranks)
    for process in ranks:
        process.join(60)
    assert seen[0] == seen[1] == [0, 0, 143, 143]
