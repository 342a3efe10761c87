"""The denoiser: diffusers' ``UNet2DConditionModel`` with the source latents on extra input channels."""

from __future__ import annotations

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from jaxtyping import Float, Num
from torch import Tensor, nn


def denoise(
    unet: UNet2DConditionModel,
    noisy_latents: Float[Tensor, "B C h w"],
    source_latents: Float[Tensor, "B C h w"],
    timesteps: Num[Tensor, " B"],
    condition: Float[Tensor, "B Q D"],
) -> Float[Tensor, "B O h w"]:
    """Raw network output for noisy target and source side by side (InstructPix2Pix, arXiv:2211.09800, section 3.2).

    A UNet with ``class_embed_type="projection"`` also gets the mean of the condition, added to its time embedding
    (feature-wise modulation): small UNets hear a pooled condition much sooner than a sequence.

    Args:
        unet: Takes ``2 C`` input channels.
        noisy_latents: ``(B, C, h, w)``.
        source_latents: ``(B, C, h, w)``; zeros where the image is dropped.
        timesteps: ``(B,)``; some schedulers sample at fractions.
        condition: ``(B, Q, D)``.

    Returns:
        ``(B, O, h, w)`` float32, ``O`` = the UNet's output channels.
    """
    inputs = torch.cat([noisy_latents, source_latents], dim=1).to(unet.dtype)  # (B, 2C, h, w)
    pooled = condition.mean(dim=1).to(unet.dtype) if unet.config["class_embed_type"] == "projection" else None
    output: Tensor = unet(inputs, timesteps, condition.to(unet.dtype), class_labels=pooled, return_dict=False)[0]
    return output.float()


def widen_conv_in(unet: UNet2DConditionModel, in_channels: int) -> None:
    """Give a pretrained UNet more input channels in place: new ones start at zero, weight *and* bias are kept.

    ml-mgie leaves the bias of the new convolution random (see ``docs/numerics.md``).

    Args:
        unet: Changed in place, its config too.
        in_channels: Channels it has afterwards: 8 for SD-1.5, latents of target and source.

    Raises:
        ValueError: ``in_channels`` is smaller than what the UNet has.
    """
    old = unet.conv_in
    if in_channels < old.in_channels:
        raise ValueError(f"in_channels: expected at least {old.in_channels}, got {in_channels}")
    new = nn.Conv2d(in_channels, old.out_channels, old.kernel_size, old.stride, old.padding)  # type: ignore[arg-type]
    with torch.no_grad():
        new.weight.zero_()
        new.weight[:, : old.in_channels] = old.weight
        new.bias.copy_(old.bias)  # type: ignore[union-attr, arg-type]
    unet.conv_in = new.to(old.weight.device, old.weight.dtype)
    unet.register_to_config(in_channels=in_channels)  # type: ignore[no-untyped-call]


def zero_output(unet: UNet2DConditionModel) -> None:
    """Let an untrained UNet give zeros, so that with an affine head it starts as a copy of the source."""
    nn.init.zeros_(unet.conv_out.weight)
    nn.init.zeros_(unet.conv_out.bias)  # type: ignore[arg-type]
