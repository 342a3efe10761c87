"""Pixels <-> latents, for diffusers' ``AutoencoderKL`` and for our parameter-free ``PatchAutoencoder`` alike."""

from __future__ import annotations

import math
from typing import Any, Protocol, runtime_checkable

import torch
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.autoencoders.vae import DecoderOutput, DiagonalGaussianDistribution
from diffusers.models.modeling_outputs import AutoencoderKLOutput
from diffusers.models.modeling_utils import ModelMixin
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@runtime_checkable  # shapes and types are checked in every test
class Autoencoder(Protocol):
    """What an editor asks of an autoencoder: the shape of diffusers' ``AutoencoderKL``."""

    @property
    def config(self) -> dict[str, Any]:
        """Constructor arguments; ``scaling_factor`` among them."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights; images and latents are converted to it."""
        ...

    def encode(self, x: Tensor) -> AutoencoderKLOutput:
        """``(B, 3, H, W)`` in [-1, 1] -> distribution of ``(B, C, h, w)``."""
        ...

    def decode(self, z: Tensor) -> DecoderOutput:
        """``(B, C, h, w)`` -> ``(B, 3, H, W)``."""
        ...


def latent_distribution(autoencoder: Autoencoder, images: Float[Tensor, "B 3 H W"]) -> DiagonalGaussianDistribution:
    """Unscaled latents, ``(B, C, h, w)`` in the autoencoder's type, of images in [-1, 1]."""
    moments = autoencoder.encode(_channels_last(images, autoencoder.dtype)).latent_dist.parameters  # (B, 2 C, h, w)
    return DiagonalGaussianDistribution(moments.contiguous())


def encode_source(autoencoder: Autoencoder, images: Float[Tensor, "B 3 H W"], *, scale: float) -> Tensor:
    """Latents of the source as the UNet sees them: the distribution's mode.

    Args:
        autoencoder: Frozen.
        images: ``(B, 3, H, W)`` in [-1, 1].
        scale: Factor on the mode; 1.0 in InstructPix2Pix and ml-mgie, which do *not* apply the scaling factor here.

    Returns:
        ``(B, C, h, w)`` float32; ``h = H / 8`` for SD-1.5.
    """
    mode: Tensor = latent_distribution(autoencoder, images).mode()  # (B, C, h, w)
    return mode.float() * scale


def encode_target(
    autoencoder: Autoencoder, images: Float[Tensor, "B 3 H W"], latent_noise: Tensor, *, scale: float
) -> Tensor:
    """Latents to be denoised: a sample of the distribution times the scaling factor.

    Args:
        autoencoder: Frozen.
        images: ``(B, 3, H, W)`` in [-1, 1].
        latent_noise: ``(B, C, h, w)`` standard normal.
        scale: The autoencoder's scaling factor, 0.18215 for SD-1.5.

    Returns:
        ``(B, C, h, w)`` float32, in the units that the UNet denoises.
    """
    distribution = latent_distribution(autoencoder, images)
    sample: Tensor = distribution.mean.float() + distribution.std.float() * latent_noise  # (B, C, h, w)
    return sample * scale


def decode_latents(autoencoder: Autoencoder, latents: Tensor, *, scale: float) -> Float[Tensor, "B 3 H W"]:
    """Pixels of scaled latents, ``(B, 3, H, W)`` in [-1, 1] (not clipped)."""
    pixels = autoencoder.decode(_channels_last(latents / scale, autoencoder.dtype)).sample
    return pixels.float().contiguous()


def _channels_last(images: Tensor, dtype: torch.dtype) -> Tensor:
    """Same values in the order in memory in which convolutions are quickest, and which they pass on."""
    return images.to(dtype, memory_format=torch.channels_last)


def downscale_factor(autoencoder: Autoencoder) -> int:
    """Pixels per latent position: 8 for SD-1.5, the patch size for ``PatchAutoencoder``."""
    config = autoencoder.config
    if "patch_size" in config:
        return int(config["patch_size"])
    return int(2 ** (len(config["block_out_channels"]) - 1))


def latent_channels(autoencoder: Autoencoder) -> int:
    """Channels of the latents: 4 for SD-1.5, ``3 p^2`` for ``PatchAutoencoder`` with patches of side ``p``."""
    config = autoencoder.config
    return 3 * int(config["patch_size"]) ** 2 if "patch_size" in config else int(config["latent_channels"])


class PatchAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]
    """Lossless latents without weights: the cosine transform of every colour patch.

    A patch of ``p x p`` RGB pixels becomes ``3 p^2`` coefficients (2-D DCT-II, orthonormal, of an orthonormal basis of
    one luminance and two colour differences). In photographs a coefficient's standard deviation falls about as
    ``(1 + f)^-2.4`` with its frequency ``f``, and colour has a third of the luminance's; the gains below take back half
    of both (in the exponent), so that no coefficient drowns and the coarse ones still weigh most.

    Args:
        patch_size: Side ``p`` of a patch in pixels.
        frequency_gain: Coefficients of frequency ``f`` are multiplied by ``(1 + f)^frequency_gain``; 0 = as they are.
        colour_gain: Factor on the colour differences; 1 = as they are.
        scaling_factor: Factor between latents and what the UNet denoises.
    """

    @register_to_config  # type: ignore[untyped-decorator]
    def __init__(
        self,
        patch_size: int = 4,
        frequency_gain: float = 1.2,
        colour_gain: float = 1.8,
        scaling_factor: float = 1.0,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        basis = _patch_basis(patch_size)  # (C, 3 p^2), orthonormal rows
        gain = _coefficient_gain(patch_size, frequency_gain, colour_gain)  # (C,)
        shape = (-1, 3, patch_size, patch_size)
        self.register_buffer("analysis", (basis * gain[:, None]).view(shape), persistent=False)
        self.register_buffer("synthesis", (basis / gain[:, None]).view(shape), persistent=False)
        # diffusers reads dtype and device off the parameters; a codec without weights still needs to answer
        self.anchor = torch.nn.Parameter(torch.zeros(1), requires_grad=False)

    def encode(self, x: Float[Tensor, "B 3 H W"]) -> AutoencoderKLOutput:
        """Coefficients of the patches; a distribution without spread, so that mode and sample agree.

        Args:
            x: ``(B, 3, H, W)`` in [-1, 1].

        Returns:
            Distribution of ``(B, 3 p^2, H / p, W / p)``, not yet times the scaling factor.

        Raises:
            ValueError: A side is not a multiple of the patch size.
        """
        patch = self.config["patch_size"]
        if x.shape[-2] % patch or x.shape[-1] % patch:
            raise ValueError(f"image: expected sides that are multiples of {patch}, got {tuple(x.shape[-2:])}")
        latents = F.conv2d(x, self.analysis.to(x.dtype), stride=patch)  # (B, C, h, w)
        log_variance = torch.full_like(latents, -math.inf)  # clamped to exp(-30) by the distribution
        return AutoencoderKLOutput(DiagonalGaussianDistribution(torch.cat([latents, log_variance], 1)))

    def decode(self, z: Float[Tensor, "B C h w"]) -> DecoderOutput:
        """Pixels of the coefficients, ``(B, 3, H, W)``; the exact inverse of ``encode``."""
        return DecoderOutput(F.conv_transpose2d(z, self.synthesis.to(z.dtype), stride=self.config["patch_size"]))


_COLOUR_BASIS = ((1.0, 1.0, 1.0), (1.0, 0.0, -1.0), (1.0, -2.0, 1.0))  # luminance, red - blue, against green


def _cosine_basis(size: int) -> Tensor:
    """Orthonormal DCT-II, ``(frequency, position)``."""
    frequency, position = torch.arange(size)[:, None], torch.arange(size)[None]
    basis = torch.cos(math.pi * (position + 0.5) * frequency / size)
    normalised: Tensor = basis / basis.norm(dim=1, keepdim=True)
    return normalised


def _patch_basis(size: int) -> Tensor:
    """Orthonormal rows over a patch's ``3 * size * size`` values, ``(C, 3 size^2)``."""
    cosine, colour = _cosine_basis(size), torch.tensor(_COLOUR_BASIS)
    colour = colour / colour.norm(dim=1, keepdim=True)
    return torch.einsum("kc,uy,vx->kuvcyx", colour, cosine, cosine).reshape(3 * size**2, 3 * size**2)


def _coefficient_gain(size: int, frequency_gain: float, colour_gain: float) -> Tensor:
    """Factor of each coefficient, ``(3 size^2,)``; a uniform patch of luminance 1 gets ``sqrt(3)``."""
    axis = torch.arange(size, dtype=torch.float32)
    frequency = (axis[:, None] ** 2 + axis[None] ** 2).sqrt().flatten()  # half cycles per patch
    colour = torch.tensor([1.0, colour_gain, colour_gain])
    return (colour[:, None] * (1.0 + frequency) ** frequency_gain).flatten() / size
