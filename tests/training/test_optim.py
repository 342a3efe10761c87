from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch.optim import SGD
from torch.optim.lr_scheduler import LambdaLR

from mgie_lit.errors import ConfigError
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.testing.tiny_text import tiny_text_editor
from mgie_lit.training.optim import PARAMETER_GROUPS, adamw, parameter_group, warmup_cosine, warmup_hold_linear


def rates(make: Callable[[SGD], LambdaLR], steps: int) -> list[float]:
    """Learning rates of the steps 0, 1, ... with a peak of 2."""
    optimizer = SGD([torch.zeros(1, requires_grad=True)], lr=2.0)
    schedule = make(optimizer)
    result = []
    for _ in range(steps):
        result.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return result


def test_every_parameter_has_a_group() -> None:
    groups = {parameter_group(name) for name, _ in tiny_editor("kl").named_parameters()}
    assert groups == {"embeddings", "lm_head", "mllm", "edit_head", "unet", "other"}
    groups |= {parameter_group(name) for name, _ in tiny_text_editor().named_parameters()}
    assert groups == {group for group, _ in PARAMETER_GROUPS}


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("guide.mllm.language_model.model.embed_tokens.weight", "embeddings"),
        ("guide.mllm.language_model.lm_head.weight", "lm_head"),
        ("guide.mllm.language_model.model.norm.weight", "mllm"),
        ("guide.mllm.projector.bias", "mllm"),
        ("guide.edit_head.query", "edit_head"),
        ("guide.text_encoder.final_layer_norm.bias", "text_encoder"),
        ("unet.conv_in.bias", "unet"),
        ("autoencoder.anchor", "other"),
    ],
)
def test_group_of_a_name(name: str, group: str) -> None:
    assert parameter_group(name) == group


def test_groups_have_their_own_multiple_of_the_base_rate() -> None:
    editor = tiny_editor("kl")
    trainable = set_trainable(editor, ["guide.mllm.language_model.lm_head.*", "guide.edit_head.*", "unet.*"])
    optimizer = adamw(
        editor.named_parameters(), lr=1e-3, lr_scale={"unet": 0.2, "mllm": 9.0}, betas=(0.8, 0.9), weight_decay=0.03
    )
    assert {group["name"]: group["lr"] for group in optimizer.param_groups} == {
        "lm_head": 1e-3,
        "edit_head": 1e-3,
        "unet": pytest.approx(2e-4),
    }
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.03}
    assert {group["betas"] for group in optimizer.param_groups} == {(0.8, 0.9)}
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(parameter) for name, parameter in editor.named_parameters() if name in trainable}


@pytest.mark.faults
def test_unknown_group_is_refused() -> None:
    known = "embeddings, lm_head, mllm, edit_head, text_encoder, unet, other"
    message = f"optimizer.lr_scale: expected some of {known}, got unett, vae"
    with pytest.raises(ConfigError, match=message):
        adamw([], lr=1e-3, lr_scale={"vae": 1.0, "unett": 1.0, "unet": 1.0})


@pytest.mark.faults
@pytest.mark.parametrize("betas", [(0.9, 1.0), (-0.1, 0.9), (0.9,), (0.9, 0.9, 0.9), (math.nan, 0.9)])
def test_moments_have_to_decay(betas: tuple[float, ...]) -> None:
    got = ", ".join(map(str, betas))
    with pytest.raises(ConfigError, match=rf"optimizer\.betas: expected 2 numbers >= 0 and < 1, got {got}$"):
        adamw([], lr=1e-3, lr_scale={}, betas=betas)  # type: ignore[arg-type]


def test_cosine_warms_up_from_zero_and_ends_at_the_final_ratio() -> None:
    got = rates(lambda optimizer: warmup_cosine(optimizer, num_steps=20, warmup_ratio=0.2, final_ratio=0.1), 22)
    assert got[:5] == pytest.approx([0.0, 0.5, 1.0, 1.5, 2.0])
    for step in range(4, 20):
        expected = 2 * (0.1 + 0.9 * 0.5 * (1 + math.cos(math.pi * (step - 4) / 16)))
        assert got[step] == pytest.approx(expected)
    assert got[20] == got[21] == pytest.approx(0.2)


def test_cosine_equals_the_recorded_rates_of_the_released_trainer() -> None:
    """Six steps, one of warm-up; the recorded rates are those after each step."""
    got = rates(lambda optimizer: warmup_cosine(optimizer, num_steps=6, warmup_ratio=0.03), 7)
    assert [rate / 2 * 5e-4 for rate in got[1:]] == pytest.approx(
        [0.0005, 0.0004523, 0.0003273, 0.0001727, 4.775e-05, 0], abs=5e-8
    )


def test_hold_then_linear() -> None:
    make = lambda optimizer: warmup_hold_linear(  # noqa: E731
        optimizer, num_steps=20, warmup_steps=4, hold_ratio=0.5, final_ratio=0.2
    )
    got = rates(make, 22)
    assert got[:4] == pytest.approx([0.5, 1.0, 1.5, 2.0])
    assert got[4:11] == pytest.approx([2.0] * 7)
    assert got[15] == pytest.approx(2 * (1 - 0.8 * 0.5))
    assert got[20] == got[21] == pytest.approx(0.4)
    assert all(later <= earlier for earlier, later in pairwise(got[4:]))


def test_hold_without_warm_up_begins_at_the_peak() -> None:
    got = rates(lambda optimizer: warmup_hold_linear(optimizer, num_steps=4, warmup_steps=0, hold_ratio=0.5), 3)
    assert got == pytest.approx([2.0] * 3)


def test_hold_to_the_end_never_falls() -> None:
    got = rates(lambda optimizer: warmup_hold_linear(optimizer, num_steps=4, warmup_steps=2, hold_ratio=1.0), 7)
    assert got == pytest.approx([1.0] + [2.0] * 6)


def test_fused_kernel_differs_by_rounding_alone_and_is_left_out_where_there_is_none() -> None:
    sides = []
    for fused in (True, False):
        weight = torch.nn.Parameter(torch.linspace(-1, 1, 12).view(3, 4))
        optimizer = adamw([("unet.weight", weight)], lr=1e-2, lr_scale={}, fused=fused)
        for step in range(3):
            weight.grad = torch.sin(weight.detach() * 3 + step)
            optimizer.step()
        sides.append(weight.detach())
        assert bool(optimizer.defaults["fused"]) is fused
    torch.testing.assert_close(*sides, rtol=1e-6, atol=1e-7)
    nowhere = torch.nn.Parameter(torch.empty(2, device="meta"))
    assert not adamw([("unet.weight", nowhere)], lr=1e-2, lr_scale={}).defaults["fused"]
