from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mgie_lit.checkpoints.lazy import LazyTensor
from mgie_lit.checkpoints.mismatch import Fit, check_fit
from mgie_lit.errors import CheckpointError


def lazy(name: str, *shape: int) -> LazyTensor:
    return LazyTensor(shape, torch.float32, Path("a.bin"), name, lambda: torch.zeros(shape))


EXPECTED = {
    **{f"layers.{layer}.linear1.bias": (3,) for layer in range(6)},
    **{f"blocks.{block}.norms.{norm}.weight": (4,) for block in range(2) for norm in range(3)},
    "head.weight": (5, 2),
    "query": (1, 7),
}


def test_what_fits_passes() -> None:
    check_fit("a.bin", [Fit("part", EXPECTED, {name: lazy(name, *shape) for name, shape in EXPECTED.items()})])


@pytest.mark.faults
def test_one_message_lists_everything_by_kind_and_part() -> None:
    found = {"head.weight": lazy("model.head.weight", 2, 5), "foreign.9.bias": lazy("foreign.9.bias", 8)}
    found |= {"layers.3.linear1.bias": lazy("model.layers.3.linear1.bias", 3)}
    fits = [
        Fit("mllm", EXPECTED, found, lambda name: f"model.{name}"),
        Fit("unet", {"conv_in.weight": (2, 8)}, {"conv_in.weight": lazy("conv_in.weight", 2, 4)}),
    ]
    with pytest.raises(CheckpointError) as caught:
        check_fit("folder", fits)
    assert str(caught.value).splitlines() == [
        "folder: the tensors do not fit the model; is it the right source, and whole?",
        "missing (12):",
        "  mllm: model.layers.{0-2,4-5}.linear1.bias (5)",
        "  mllm: model.blocks.{0-1}.norms.{0-2}.weight (6)",
        "  mllm: model.query",
        "unexpected (1):",
        "  mllm: foreign.9.bias (8,)",
        "wrong shape (2):",
        "  mllm: model.head.weight has shape (2, 5) instead of (5, 2)",
        "  unet: conv_in.weight has shape (2, 4) instead of (2, 8)",
    ]


@pytest.mark.faults
def test_a_gap_in_two_numbers_is_not_hidden() -> None:
    expected = {f"blocks.{block}.norms.{norm}.weight": (4,) for block, norm in [(0, 0), (0, 1), (1, 1)]}
    with pytest.raises(CheckpointError) as caught:
        check_fit("folder", [Fit("unet", expected, {})])
    assert "unet: blocks.{0-1}.norms.{0-1}.weight (3 of 4): " in str(caught.value)
    for name in expected:
        assert name in str(caught.value)
