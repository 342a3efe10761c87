from __future__ import annotations

import os
import signal
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
    assert not termination.agreed()
    os.kill(os.getpid(), signal.SIGTERM)
    assert termination.agreed()
    termination.finish()
    termination.close()
    assert signal.getsignal(signal.SIGTERM) is before


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
    assert seen[0] == seen[1] == [False, False, True, True]
