"""Guidance of a denoiser by two conditions."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor


def guidance_weights(*, guidance_scale: float, image_guidance_scale: float) -> tuple[float, float, float]:
    """Weights of the three predictions in :func:`combine_guidance`; a branch of weight 0 need not be computed.

    Args:
        guidance_scale: Weight of the instruction, dimensionless.
        image_guidance_scale: Weight of the source image, dimensionless.

    Returns:
        Of null, image and image+text; they add up to 1.

    >>> guidance_weights(guidance_scale=7.5, image_guidance_scale=1.0)
    (0.0, -6.5, 7.5)
    """
    return 1.0 - image_guidance_scale, image_guidance_scale - guidance_scale, guidance_scale


def is_guided(noise_level: float, interval: tuple[float, float]) -> bool:
    """Whether guidance is used at a noise level (Kynkäänniemi et al. 2024, arXiv:2404.07724).

    Args:
        noise_level: Timestep over the number of training timesteps, 0 = clean, 1 = pure noise.
        interval: Lowest and highest level with guidance, both included, in the same unit.

    Returns:
        Always True for ``(0, 1)``.

    >>> [is_guided(level, (0.25, 0.75)) for level in (0.1, 0.25, 0.999)]
    [False, True, False]
    """
    low, high = interval
    return low <= noise_level <= high


def combine_guidance(
    noise_preds: Float[Tensor, "N B C h w"], *, guidance_scale: float, image_guidance_scale: float
) -> Float[Tensor, "B C h w"]:
    """Mix null, image and image+text predictions (InstructPix2Pix, arXiv:2211.09800, eq. 3).

    The mix is affine with weights that add up to 1, so it holds for noise, velocity and clean-latent predictions alike.

    Args:
        noise_preds: ``(3, B, C, h, w)`` float, latent units, order [null, image, image+text]; ``h = H / 8``.
        guidance_scale: Weight of the instruction, dimensionless, usually 7.5.
        image_guidance_scale: Weight of the source image, dimensionless, usually 1.5; higher stays closer.

    Returns:
        ``(B, C, h, w)``, dtype and device of ``noise_preds``; its last entry when both scales are 1.0.

    Raises:
        ValueError: The first axis is not 3; the message gives the shape received.
    """
    if noise_preds.shape[0] != 3:
        raise ValueError(
            f"noise_preds: expected 3 predictions [null, image, image+text], got {tuple(noise_preds.shape)}"
        )
    null, image, text = noise_preds.unbind(0)
    if guidance_scale == image_guidance_scale == 1.0:
        return text
    return null + image_guidance_scale * (image - null) + guidance_scale * (text - image)
