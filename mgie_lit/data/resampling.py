"""Scaling pictures: Pillow's resampling, or torch's, which is several times as fast and nearly the same."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch.nn.functional import interpolate

from mgie_lit.errors import ConfigError

PILLOW, TORCH = "pillow", "torch"
RESAMPLERS = (PILLOW, TORCH)
_TORCH_MODES = {Image.Resampling.BICUBIC: "bicubic", Image.Resampling.BILINEAR: "bilinear"}


def check_resampler(resampler: str) -> str:
    """The name of a resampler.

    Args:
        resampler: As given.

    Returns:
        The same.

    Raises:
        ConfigError: There is no such resampler.
    """
    if resampler not in RESAMPLERS:
        raise ConfigError(f"data.resampler: expected {PILLOW} or {TORCH}, got {resampler!r}; use one of these")
    return resampler


def resize(
    image: Image.Image,
    size: tuple[int, int],
    *,
    resampler: str = PILLOW,
    kernel: Image.Resampling = Image.Resampling.BICUBIC,
) -> Image.Image:
    """An RGB image at another size; of that size already, it comes back itself.

    Args:
        image: Mode RGB.
        size: Width and height in pixels.
        resampler: One of ``RESAMPLERS``. ``torch`` rounds the kernel's weights to 16 bits, so a few values differ by 1
            or 2 of 255 (numbers in docs/benchmarks/loader_cpu_202611.md); kernels that it lacks are left to Pillow.
        kernel: Widened when the picture shrinks (antialiasing).

    Returns:
        Mode RGB, 8 bits.
    """
    if image.size == size:
        return image
    if resampler == TORCH and kernel in _TORCH_MODES:
        return _torch_resize(image, size, _TORCH_MODES[kernel])
    return image.resize(size, kernel)


def _torch_resize(image: Image.Image, size: tuple[int, int], mode: str) -> Image.Image:
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None]  # (1, 3, H, W), channels last in memory
    planes = interpolate(pixels, size=(size[1], size[0]), mode=mode, antialias=True)[0]  # (3, h, w)
    lines = planes.permute(1, 0, 2).contiguous().numpy()  # of each line first all red, then all green, then all blue
    return Image.frombytes("RGB", size, lines.data, "raw", "RGB;L")
