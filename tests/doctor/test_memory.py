from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from mgie_lit.doctor.dry_run import DryRun
from mgie_lit.doctor.memory import MemoryEstimate, checkpoint_bytes, estimate_memory, tensor_bytes
from mgie_lit.doctor.precision import parse_precision
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.optim import adamw

RUN = DryRun({"UNet": 700, "losses": 50}, peak=1000, flops_forward=1, flops_backward=2)


def test_parts_of_the_estimate() -> None:
    memory = estimate_memory(10_000, 400, RUN, num_processes=1, is_cuda=False)
    expected = {"weights": 10_000, "gradients": 400, "optimizer": 800, "buckets": 0, "update": 0}
    assert memory == MemoryEstimate(**expected, activations=750, temporary=250)
    assert memory.total == 10_000 + 400 + 800 + 1000


def test_several_processes_hold_gradients_twice() -> None:
    one, two = (estimate_memory(10_000, 400, RUN, num_processes=count, is_cuda=True) for count in (1, 2))
    assert (one.buckets, two.buckets) == (0, 400)
    assert two.total - one.total == 400


def test_update_counts_where_it_takes_more_than_the_backward() -> None:
    small = replace(RUN, peak=750)
    assert estimate_memory(0, 5000, small, num_processes=1, is_cuda=True).total == 4 * 5000
    assert estimate_memory(0, 5000, small, num_processes=1, is_cuda=False).total == 3 * 5000 + 750


def test_bytes_of_weights_and_of_what_trains() -> None:
    editor = tiny_editor()
    set_trainable(editor, ["unet.*"])
    unet = sum(parameter.numel() for parameter in editor.unet.parameters())
    everything = sum(t.numel() * t.itemsize for t in (*editor.parameters(), *editor.buffers()))
    assert tensor_bytes(editor, parse_precision("bf16-mixed")) == (everything, 4 * unet)
    assert tensor_bytes(editor, parse_precision("bf16-true"))[1] == 2 * unet
    editor.guide.mllm.vision_tower.half()  # type: ignore[union-attr]
    tower = sum(parameter.numel() for parameter in editor.guide.mllm.vision_tower.parameters())  # type: ignore[union-attr]
    assert tensor_bytes(editor, parse_precision(None))[0] == everything - 2 * tower


def test_moments_are_those_that_adamw_makes() -> None:
    editor = tiny_editor()
    set_trainable(editor, ["unet.*"])
    optimizer = adamw(editor.named_parameters(), lr=1e-4, lr_scale={})
    for parameter in editor.unet.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    held = sum(value.nbytes for state in optimizer.state.values() for value in state.values() if value.ndim)
    trainable = tensor_bytes(editor, parse_precision(None))[1]
    assert estimate_memory(0, trainable, RUN, num_processes=1, is_cuda=False).optimizer == held


def test_checkpoint_holds_what_trains_and_what_can_not_be_loaded_again() -> None:
    editor = tiny_editor()
    set_trainable(editor, ["unet.*"])
    unet = 4 * sum(parameter.numel() for parameter in editor.unet.parameters())
    frozen = 4 * sum(p.numel() for p in editor.parameters()) - unet
    precision = parse_precision(None)
    assert checkpoint_bytes(editor, precision, ()) == 3 * unet + frozen
    loaded = ("guide.mllm", "autoencoder", "unet")
    edit_head = 4 * sum(p.numel() for p in editor.guide.edit_head.parameters())  # type: ignore[union-attr]
    assert checkpoint_bytes(editor, precision, loaded) == 3 * unet + edit_head


@pytest.mark.parametrize("prefix", ["une", "unet.conv"])
def test_only_whole_names_are_left_out_of_a_checkpoint(prefix: str) -> None:
    editor = tiny_editor()
    set_trainable(editor, ["guide.edit_head.*"])
    assert checkpoint_bytes(editor, parse_precision(None), (prefix,)) == checkpoint_bytes(
        editor, parse_precision(None), ()
    )
