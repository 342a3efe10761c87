"""Forward noising and the three ways in which a network can state its prediction.

With ``a = sqrt(alpha_bar_t)`` and ``s = sqrt(1 - alpha_bar_t)``: ``noisy = a * clean + s * noise`` (DDPM,
arXiv:2006.11239, eq. 4) and ``velocity = a * noise - s * clean`` (progressive distillation, arXiv:2202.00512, eq. 12).
"""

from __future__ import annotations

from typing import Literal, get_args

from jaxtyping import Float, Int
from torch import Tensor

PredictionType = Literal["epsilon", "v_prediction", "sample"]
PREDICTION_TYPES: tuple[str, ...] = get_args(PredictionType)


def signal_and_noise(
    alphas_cumprod: Float[Tensor, " T"], timesteps: Int[Tensor, " B"]
) -> tuple[Float[Tensor, "B 1 1 1"], Float[Tensor, "B 1 1 1"]]:
    """``sqrt(alpha_bar_t)`` and ``sqrt(1 - alpha_bar_t)`` of each sample, ready to broadcast over latents."""
    alpha_bar = alphas_cumprod[timesteps].view(-1, 1, 1, 1)  # (B, 1, 1, 1)
    return alpha_bar.sqrt(), (1.0 - alpha_bar).sqrt()


def add_noise(
    clean: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    alphas_cumprod: Float[Tensor, " T"],
) -> Float[Tensor, "B C h w"]:
    """Noisy latents at ``timesteps`` (DDPM, arXiv:2006.11239, eq. 4).

    Args:
        clean: ``(B, C, h, w)`` target latents, scaled units.
        noise: ``(B, C, h, w)`` standard normal.
        timesteps: ``(B,)`` int in ``[0, T)``; 0 is almost clean.
        alphas_cumprod: ``(T,)`` in [0, 1], falling.

    Returns:
        ``(B, C, h, w)``.
    """
    signal, sigma = signal_and_noise(alphas_cumprod, timesteps)
    return signal * clean + sigma * noise


def prediction_target(
    clean: Float[Tensor, "B C h w"],
    noise: Float[Tensor, "B C h w"],
    timesteps: Int[Tensor, " B"],
    alphas_cumprod: Float[Tensor, " T"],
    prediction_type: PredictionType,
) -> Float[Tensor, "B C h w"]:
    """What a network of this prediction type should give for ``add_noise(clean, noise, timesteps)``.

    Args:
        clean: ``(B, C, h, w)`` target latents, scaled units.
        noise: ``(B, C, h, w)`` standard normal.
        timesteps: ``(B,)`` int in ``[0, T)``.
        alphas_cumprod: ``(T,)`` in [0, 1], falling.
        prediction_type: ``epsilon`` = the noise, ``sample`` = the clean latents, ``v_prediction`` = the velocity.

    Returns:
        ``(B, C, h, w)``.

    Raises:
        ValueError: The prediction type is unknown; the message lists the known ones.
    """
    if prediction_type == "epsilon":
        return noise
    if prediction_type == "sample":
        return clean
    if prediction_type == "v_prediction":
        signal, sigma = signal_and_noise(alphas_cumprod, timesteps)
        return signal * noise - sigma * clean
    raise ValueError(f"prediction_type: expected one of {', '.join(PREDICTION_TYPES)}, got {prediction_type!r}")


def apply_affine_to_source(
    gain_and_bias: Float[Tensor, "B C2 h w"], source_latents: Float[Tensor, "B C h w"]
) -> Float[Tensor, "B C h w"]:
    """Clean latents as an affine change of the source: ``source * (1 + gain) + bias``.

    With this head an untrained network (last layer zero) returns the source, and a global edit is a constant output.

    Args:
        gain_and_bias: ``(B, 2 C, h, w)``, gain in the first half of the channels; dimensionless, then latent units.
        source_latents: ``(B, C, h, w)`` source in the units of the target latents; zero where it was dropped.

    Returns:
        ``(B, C, h, w)`` predicted clean latents.

    Raises:
        ValueError: The channel counts do not fit; the message gives both.
    """
    if gain_and_bias.shape[1] != 2 * source_latents.shape[1]:
        raise ValueError(
            f"gain_and_bias: expected {2 * source_latents.shape[1]} channels for {source_latents.shape[1]} latent "
            f"channels, got {gain_and_bias.shape[1]}; set unet.out_channels"
        )
    gain, bias = gain_and_bias.chunk(2, dim=1)
    return source_latents * (1.0 + gain) + bias
