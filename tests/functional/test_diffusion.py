from __future__ import annotations

import jaxtyping
import pytest
import torch
from diffusers import DDPMScheduler

from mgie_lit.functional.diffusion import (
    PREDICTION_TYPES,
    add_noise,
    apply_affine_to_source,
    prediction_target,
    signal_and_noise,
)

SHAPE = (4, 3, 5, 2)
TIMESTEPS = torch.tensor([0, 1, 500, 999])


@pytest.fixture
def scheduler() -> DDPMScheduler:
    return DDPMScheduler(1000, beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear")


def test_prediction_types_are_known_by_name() -> None:
    assert set(PREDICTION_TYPES) == {"epsilon", "v_prediction", "sample"}


def test_noising_and_velocity_equal_those_of_diffusers(scheduler: DDPMScheduler) -> None:
    clean, noise = torch.randn(2, *SHAPE)
    noisy = add_noise(clean, noise, TIMESTEPS, scheduler.alphas_cumprod)
    assert torch.equal(noisy, scheduler.add_noise(clean, noise, TIMESTEPS))
    velocity = prediction_target(clean, noise, TIMESTEPS, scheduler.alphas_cumprod, "v_prediction")
    assert torch.equal(velocity, scheduler.get_velocity(clean, noise, TIMESTEPS))


def test_each_sample_has_its_own_timestep(scheduler: DDPMScheduler) -> None:
    clean, noise = torch.randn(2, *SHAPE)
    together = add_noise(clean, noise, TIMESTEPS, scheduler.alphas_cumprod)
    for index in range(SHAPE[0]):
        one = slice(index, index + 1)
        alone = add_noise(clean[one], noise[one], TIMESTEPS[one], scheduler.alphas_cumprod)
        assert torch.equal(alone, together[one])


def test_limits_are_the_clean_latents_and_the_noise() -> None:
    clean, noise = torch.randn(2, 2, 3, 5, 2)
    alphas_cumprod = torch.tensor([1.0, 0.0])
    noisy = add_noise(clean, noise, torch.tensor([0, 1]), alphas_cumprod)
    assert torch.equal(noisy[0], clean[0])
    assert torch.equal(noisy[1], noise[1])
    velocity = prediction_target(clean, noise, torch.tensor([0, 1]), alphas_cumprod, "v_prediction")
    assert torch.equal(velocity[0], noise[0])
    assert torch.equal(velocity[1], -clean[1])


def test_noising_keeps_the_variance(scheduler: DDPMScheduler) -> None:
    clean, noise = torch.randn(2, 1, 100, 40, 40)
    noisy = add_noise(clean, noise, torch.tensor([400]), scheduler.alphas_cumprod)
    assert noisy.std().item() == pytest.approx(1.0, abs=0.01)


def test_clean_latents_follow_from_every_prediction(scheduler: DDPMScheduler) -> None:
    """The targets state the same thing: solved for the clean latents, each gives them back."""
    clean, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
    alphas_cumprod = scheduler.alphas_cumprod.double()
    noisy = add_noise(clean, noise, TIMESTEPS, alphas_cumprod)
    signal, sigma = signal_and_noise(alphas_cumprod, TIMESTEPS)
    epsilon, velocity, sample = (
        prediction_target(clean, noise, TIMESTEPS, alphas_cumprod, kind)
        for kind in ("epsilon", "v_prediction", "sample")
    )
    assert torch.allclose((noisy - sigma * epsilon) / signal, clean)
    assert torch.allclose(signal * noisy - sigma * velocity, clean)
    assert torch.equal(sample, clean)


def test_dtype_is_kept() -> None:
    clean, noise = torch.randn(2, *SHAPE, dtype=torch.float64)
    alphas_cumprod = torch.linspace(1, 0, 1000, dtype=torch.float64)
    assert add_noise(clean, noise, TIMESTEPS, alphas_cumprod).dtype == torch.float64


def test_unknown_prediction_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users: types are checked in tests only
    latents = torch.zeros(SHAPE)
    with pytest.raises(ValueError, match="expected one of epsilon, v_prediction, sample, got 'noise'"):
        prediction_target(latents, latents, TIMESTEPS, torch.ones(1000), "noise")


def test_affine_change_of_the_source() -> None:
    source = torch.randn(2, 3, 5, 4)
    gain, bias = torch.randn(2, 2, 3, 5, 4)
    assert torch.allclose(apply_affine_to_source(torch.cat([gain, bias], 1), source), source + gain * source + bias)


def test_affine_head_of_zeros_copies_and_a_dropped_source_leaves_the_bias() -> None:
    source, bias = torch.randn(2, 2, 3, 5, 4)
    zeros = torch.zeros_like(source)
    assert torch.equal(apply_affine_to_source(torch.cat([zeros, zeros], 1), source), source)
    gain = torch.randn_like(source)
    assert torch.equal(apply_affine_to_source(torch.cat([gain, bias], 1), zeros), bias)


def test_affine_head_needs_twice_the_channels() -> None:
    with pytest.raises(ValueError, match=r"expected 6 channels for 3 latent channels, got 4; set unet\.out_channels"):
        apply_affine_to_source(torch.zeros(1, 4, 2, 2), torch.zeros(1, 3, 2, 2))
