from __future__ import annotations

import pytest
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor

from mgie_lit.models.unet import denoise, widen_conv_in, zero_output
from mgie_lit.testing.tiny_models import CONDITION_DIM, tiny_unet


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return tiny_unet(4, 4).eval()


def inputs(*, channels: int = 4, batch: int = 2) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    noisy, source = torch.randn(2, batch, channels, 6, 8)
    return noisy, source, torch.tensor([3, 40])[:batch], torch.randn(batch, 7, CONDITION_DIM)


def test_noisy_latents_come_before_the_source(unet: UNet2DConditionModel) -> None:
    noisy, source, timesteps, condition = inputs()
    preds = denoise(unet, noisy, source, timesteps, condition)
    assert preds.shape == (2, 4, 6, 8)
    assert torch.equal(preds, unet(torch.cat([noisy, source], 1), timesteps, condition).sample)
    assert not torch.allclose(preds, denoise(unet, source, noisy, timesteps, condition), atol=1e-3)


def test_everything_it_is_given_counts(unet: UNet2DConditionModel) -> None:
    given = list(inputs())
    preds = denoise(unet, *given)
    for index in range(4):
        changed = list(given)
        changed[index] = given[index] + 1
        assert not torch.allclose(denoise(unet, *changed), preds, atol=1e-4), index


def test_rows_of_a_batch_do_not_mix(unet: UNet2DConditionModel) -> None:
    given = inputs()
    preds = denoise(unet, *given)
    for row in range(2):
        alone = denoise(unet, *(tensor[row : row + 1] for tensor in given))
        assert torch.allclose(alone[0], preds[row], atol=1e-5)


def test_pooled_condition_is_the_mean_of_the_sequence() -> None:
    unet = tiny_unet(4, 4, has_pooled_condition=True).eval()
    noisy, source, timesteps, condition = inputs()
    stacked = torch.cat([noisy, source], 1)
    expected = unet(stacked, timesteps, condition, class_labels=condition.mean(1)).sample
    assert torch.equal(denoise(unet, noisy, source, timesteps, condition), expected)
    other = unet(stacked, timesteps, condition, class_labels=torch.zeros(2, CONDITION_DIM)).sample
    assert not torch.allclose(expected, other, atol=1e-4)


def test_half_precision_weights_give_float32_predictions() -> None:
    preds = denoise(tiny_unet(4, 4).to(torch.bfloat16).eval(), *inputs())
    assert preds.dtype == torch.float32


def test_fractional_timesteps_are_taken(unet: UNet2DConditionModel) -> None:
    noisy, source, _, condition = inputs()
    preds = denoise(unet, noisy, source, torch.tensor([3.5, 40.0]), condition)
    whole = denoise(unet, noisy, source, torch.tensor([3, 40]), condition)
    assert torch.equal(preds[1], whole[1])
    assert not torch.allclose(preds[0], whole[0], atol=1e-5)


def test_widened_input_keeps_weight_and_bias_and_starts_new_channels_at_zero(unet: UNet2DConditionModel) -> None:
    weight, bias = unet.conv_in.weight.clone(), unet.conv_in.bias.clone()
    widen_conv_in(unet, 11)
    assert unet.conv_in.weight.shape == (16, 11, 3, 3)
    assert torch.equal(unet.conv_in.weight[:, :8], weight)
    assert torch.equal(unet.conv_in.weight[:, 8:], torch.zeros(16, 3, 3, 3))
    assert torch.equal(unet.conv_in.bias, bias)
    assert unet.config.in_channels == 11


def test_zero_channels_change_nothing_and_can_be_learnt(unet: UNet2DConditionModel) -> None:
    noisy, source, timesteps, condition = inputs()
    latents = torch.cat([noisy, source], 1)
    before = unet(latents, timesteps, condition).sample
    widen_conv_in(unet, 11)
    widened = torch.cat([latents, torch.randn(2, 3, 6, 8)], 1)
    after = unet(widened, timesteps, condition).sample
    assert torch.allclose(after, before, atol=1e-6)
    after.square().sum().backward()
    assert unet.conv_in.weight.grad[:, 8:].abs().min() > 0


def test_widening_keeps_dtype() -> None:
    unet = tiny_unet(4, 4).to(torch.bfloat16)
    widen_conv_in(unet, 9)
    assert unet.conv_in.weight.dtype == unet.conv_in.bias.dtype == torch.bfloat16


def test_input_can_not_become_narrower(unet: UNet2DConditionModel) -> None:
    with pytest.raises(ValueError, match="in_channels: expected at least 8, got 4"):
        widen_conv_in(unet, 4)


def test_zero_output(unet: UNet2DConditionModel) -> None:
    zero_output(unet)
    assert denoise(unet, *inputs()).abs().max() == 0
