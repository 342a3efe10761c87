"""Image ranges and sizes: the only place that converts between uint8, [0, 1] and [-1, 1]."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor


def pil_to_levels(image: Image.Image) -> UInt8[Tensor, "3 H W"]:
    """Pixels of an RGB image as they are.

    Args:
        image: Mode RGB, 8 bit, of any size.

    Returns:
        ``(3, H, W)`` on the CPU, 0 to 255.

    Raises:
        ValueError: The image is not RGB; the message gives its mode.
    """
    if image.mode != "RGB":
        raise ValueError(f"image: expected mode RGB, got {image.mode}; convert it with image.convert('RGB')")
    lines = np.frombuffer(image.tobytes("raw", "RGB;L"), np.uint8)  # of each line first all red, then all green, ...
    planes = lines.reshape(image.height, 3, image.width).transpose(1, 0, 2)
    return torch.from_numpy(np.array(planes, order="C"))


def pil_to_unit(image: Image.Image) -> Float[Tensor, "3 H W"]:
    """Pixels of an RGB image as float32 in [0, 1].

    Args:
        image: Mode RGB, 8 bit, of any size.

    Returns:
        ``(3, H, W)`` on the CPU; 255 becomes 1.

    Raises:
        ValueError: The image is not RGB; the message gives its mode.
    """
    return pil_to_levels(image).float().div_(255.0)


def levels_to_signed(levels: UInt8[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """From 8-bit levels to the [-1, 1] of the autoencoder; to the last bit what :func:`to_signed` makes of [0, 1]."""
    return levels.float().div_(255.0).mul_(2.0).sub_(1.0)


def unit_to_pil(image: Float[Tensor, "3 H W"]) -> Image.Image:
    """An RGB image of float pixels in [0, 1]; values outside are clipped, then rounded to 8 bit.

    >>> unit_to_pil(torch.full((3, 1, 2), 0.5)).getpixel((0, 0))
    (128, 128, 128)
    """
    pixels = image.detach().float().clamp(0.0, 1.0).mul(255.0).round().to(torch.uint8)
    return Image.fromarray(pixels.permute(1, 2, 0).cpu().numpy(), mode="RGB")


def to_signed(unit: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """From [0, 1] to the [-1, 1] of the autoencoder."""
    return unit * 2.0 - 1.0


def to_unit(signed: Float[Tensor, "*B 3 H W"]) -> Float[Tensor, "*B 3 H W"]:
    """From the [-1, 1] of the autoencoder to [0, 1], clipped."""
    return (signed * 0.5 + 0.5).clamp(0.0, 1.0)


def working_size(width: int, height: int, *, resolution: int, multiple: int) -> tuple[int, int]:
    """Width and height at which a model edits an image of any size.

    The area is about ``resolution**2`` and the aspect ratio is kept up to 3:1; a more extreme image is squeezed.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        resolution: Side in pixels of the square that the model was trained on.
        multiple: Both sides are multiples of this (autoencoder's factor times the UNet's), and at least it.

    Returns:
        ``(width, height)`` in pixels.

    >>> working_size(640, 480, resolution=64, multiple=8)
    (72, 56)
    """
    aspect = min(max(width / height, 1 / 3), 3.0)
    ideal_width = resolution * aspect**0.5
    ideal_height = resolution / aspect**0.5
    return tuple(max(multiple, round(side / multiple) * multiple) for side in (ideal_width, ideal_height))


def floor_size(width: int, height: int, *, multiple: int) -> tuple[int, int]:
    """Width and height cut down to multiples, as diffusers' InstructPix2Pix pipeline does with any image.

    Args:
        width: Pixels, at least 1.
        height: Pixels, at least 1.
        multiple: Both sides are multiples of this, and at least it.

    Returns:
        ``(width, height)`` in pixels.

    >>> floor_size(90, 74, multiple=8)
    (88, 72)
    """
    return (max(multiple, width - width % multiple), max(multiple, height - height % multiple))
