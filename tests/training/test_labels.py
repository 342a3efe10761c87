from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing

from mgie_lit.testing.random_data import random_batch
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.labels import share_label_mean


def test_a_training_of_one_process_keeps_its_batch() -> None:
    batch = random_batch(tiny_editor(), range(2))
    assert share_label_mean(batch) is batch


def half_of_a_batch(rank: int, folder: str) -> None:
    """One of two processes: its half, the shared mean, and the gradient as DDP averages it."""
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    editor = tiny_editor()
    batch = share_label_mean(random_batch(editor, range(2 * rank, 2 * rank + 2)))
    loss = editor.guide.losses(batch).loss_lm  # type: ignore[operator]
    loss.backward()
    gradient = editor.guide.mllm.language_model.lm_head.weight.grad / 2  # type: ignore[union-attr]
    distributed.all_reduce(gradient)
    mean = loss.detach() / 2
    distributed.all_reduce(mean)
    torch.save({"loss": mean, "gradient": gradient}, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_minimise_what_one_does(tmp_path: Path) -> None:
    multiprocessing.spawn(half_of_a_batch, args=(str(tmp_path),), nprocs=2)
    editor = tiny_editor()
    loss = editor.guide.losses(random_batch(editor, range(4))).loss_lm  # type: ignore[operator]
    loss.backward()
    gradient = editor.guide.mllm.language_model.lm_head.weight.grad  # type: ignore[union-attr]
    for rank in range(2):
        shared = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert torch.allclose(shared["loss"], loss, rtol=1e-5)
        assert torch.allclose(shared["gradient"], gradient, atol=1e-6)
