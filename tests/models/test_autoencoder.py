from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from torch import Tensor

from mgie_lit.models.autoencoder import (
    PatchAutoencoder,
    decode_latents,
    downscale_factor,
    encode_source,
    encode_target,
    latent_channels,
)
from mgie_lit.testing.tiny_models import tiny_kl_autoencoder


class KnownAutoencoder:
    """Latents with mean 3 and standard deviation 2 everywhere, whatever the image."""

    config: ClassVar[dict[str, object]] = {}
    dtype = torch.float32

    def encode(self, x: Tensor) -> Any:  # noqa: ANN401
        mean = torch.full((len(x), 4, 2, 3), 3.0)
        log_variance = torch.full_like(mean, math.log(4.0))
        return SimpleNamespace(latent_dist=DiagonalGaussianDistribution(torch.cat([mean, log_variance], 1)))

    def decode(self, z: Tensor) -> Any:  # noqa: ANN401
        raise AssertionError("encoding asks for no decoder")


@pytest.fixture(scope="module")
def kl() -> AutoencoderKL:
    torch.manual_seed(0)
    return tiny_kl_autoencoder().eval()


def test_source_is_the_unscaled_mode_and_target_a_scaled_sample() -> None:
    images, noise = torch.zeros(2, 3, 16, 24), torch.randn(2, 4, 2, 3)
    source = encode_source(KnownAutoencoder(), images, scale=1.0)
    assert torch.equal(source, torch.full((2, 4, 2, 3), 3.0))
    target = encode_target(KnownAutoencoder(), images, noise, scale=0.18215)
    assert torch.allclose(target, (3.0 + 2.0 * noise) * 0.18215)


def test_latents_of_diffusers_autoencoder(kl: AutoencoderKL) -> None:
    images = torch.rand(2, 3, 12, 20) * 2 - 1
    distribution = kl.encode(images).latent_dist
    source = encode_source(kl, images, scale=1.0)
    assert source.shape == (2, 4, 6, 10)
    assert source.is_contiguous()
    assert torch.allclose(source, distribution.mode(), atol=1e-6)
    assert torch.equal(encode_source(kl, images, scale=0.25), 0.25 * source)
    torch.manual_seed(3)
    sample = distribution.sample()
    torch.manual_seed(3)
    noise = torch.randn(sample.shape)
    assert torch.allclose(encode_target(kl, images, noise, scale=0.18215), sample * 0.18215, atol=1e-6)


def test_decoding_takes_the_scale_back(kl: AutoencoderKL) -> None:
    latents = torch.randn(2, 4, 6, 10)
    images = decode_latents(kl, latents * 0.18215, scale=0.18215)
    assert images.shape == (2, 3, 12, 20)
    assert torch.allclose(images, kl.decode(latents).sample, atol=1e-5)


def test_half_precision_autoencoder_gives_float32_latents(kl: AutoencoderKL) -> None:
    half = PatchAutoencoder(patch_size=2).to(torch.bfloat16)
    latents = encode_source(half, torch.zeros(1, 3, 4, 4), scale=1.0)
    assert half.dtype == torch.bfloat16
    assert latents.dtype == decode_latents(half, latents, scale=1.0).dtype == torch.float32


def test_factor_between_pixels_and_latents(kl: AutoencoderKL) -> None:
    assert downscale_factor(kl) == 2
    assert downscale_factor(PatchAutoencoder(patch_size=5)) == 5


def slow_patch_latents(image: np.ndarray, patch: int, frequency_gain: float, colour_gain: float) -> np.ndarray:
    """The cosine transform of every colour patch, sum by sum, in float64; image ``(3, H, W)``."""
    colours = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]]) / np.sqrt([[3], [2], [6]])
    height, width = image.shape[1] // patch, image.shape[2] // patch
    latents = np.zeros((3, patch, patch, height, width))
    wave = np.array([[np.cos(np.pi * (x + 0.5) * f / patch) for x in range(patch)] for f in range(patch)])
    wave *= np.sqrt(np.where(np.arange(patch) == 0, 1, 2) / patch)[:, None]
    for k, u, v, row, column in np.ndindex(latents.shape):
        square = image[:, row * patch : (row + 1) * patch, column * patch : (column + 1) * patch]
        coefficient = sum(
            colours[k, c] * wave[u, y] * wave[v, x] * square[c, y, x] for c, y, x in np.ndindex(3, patch, patch)
        )
        gain = (1 + np.hypot(u, v)) ** frequency_gain * (colour_gain if k else 1) / patch
        latents[k, u, v, row, column] = gain * coefficient
    return latents.reshape(-1, height, width)


@pytest.mark.parametrize(("patch", "frequency_gain", "colour_gain"), [(1, 1.2, 1.8), (2, 0.0, 1.0), (3, 1.2, 1.8)])
def test_patch_latents_equal_a_plain_cosine_transform(patch: int, frequency_gain: float, colour_gain: float) -> None:
    codec = PatchAutoencoder(patch, frequency_gain, colour_gain)
    image = torch.rand(1, 3, 2 * patch, 3 * patch) * 2 - 1
    expected = slow_patch_latents(image[0].double().numpy(), patch, frequency_gain, colour_gain)
    np.testing.assert_allclose(encode_source(codec, image, scale=1.0)[0].numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("patch", [1, 2, 4, 8])
def test_patch_autoencoder_is_lossless(patch: int) -> None:
    codec = PatchAutoencoder(patch)
    images = torch.rand(2, 3, 16, 24) * 2 - 1
    latents = encode_source(codec, images, scale=1.0)
    assert latents.shape == (2, 3 * patch**2, 16 // patch, 24 // patch)
    assert latent_channels(codec) == 3 * patch**2
    assert torch.allclose(decode_latents(codec, latents, scale=1.0), images, atol=2e-6)


def test_patch_latents_have_no_spread() -> None:
    codec, images = PatchAutoencoder(2, scaling_factor=0.8), torch.rand(2, 3, 8, 6) * 2 - 1
    target = encode_target(codec, images, torch.randn(2, 12, 4, 3), scale=0.8)
    assert torch.allclose(target, encode_source(codec, images, scale=0.8), atol=1e-5)


def test_uniform_patch_of_luminance_one() -> None:
    latents = encode_source(PatchAutoencoder(4), torch.ones(1, 3, 4, 4), scale=1.0)
    assert latents.flatten()[0].item() == pytest.approx(3**0.5)
    assert latents.flatten()[1:].abs().max() < 1e-6


def test_patch_autoencoder_is_built_without_memory() -> None:
    with torch.device("meta"):
        made = PatchAutoencoder(patch_size=4)
    assert {tensor.device.type for tensor in (*made.parameters(), *made.buffers())} == {"meta"}


def test_patch_sides_have_to_fit() -> None:
    with pytest.raises(ValueError, match=r"image: expected sides that are multiples of 4, got \(8, 6\)"):
        PatchAutoencoder(4).encode(torch.zeros(1, 3, 8, 6))


def test_patch_autoencoder_has_nothing_to_learn_and_comes_back_from_disk(tmp_path: Path) -> None:
    codec = PatchAutoencoder(3, 0.5, 2.0, scaling_factor=0.7)
    assert not any(parameter.requires_grad for parameter in codec.parameters())
    codec.save_pretrained(tmp_path)
    loaded = PatchAutoencoder.from_pretrained(tmp_path)
    images = torch.rand(1, 3, 6, 9)
    assert torch.equal(loaded.encode(images).latent_dist.mode(), codec.encode(images).latent_dist.mode())
    assert loaded.config["scaling_factor"] == 0.7
