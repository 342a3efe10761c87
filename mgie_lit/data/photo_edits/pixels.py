"""Pixel arrays of the generator: uint8 and float in [0, 1], both ``(H, W, 3)`` RGB."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

FloatImage = NDArray[np.float32]  # (H, W, 3) RGB in [0, 1]
ByteImage = NDArray[np.uint8]  # (H, W, 3) RGB
LUMA: Final = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # ITU-R BT.601, weights of R, G, B


def to_float(image: ByteImage) -> FloatImage:
    """8-bit pixels as float32 in [0, 1]."""
    return image * np.float32(1 / 255)


def to_bytes(image: FloatImage) -> ByteImage:
    """Pixels in [0, 1], clipped and rounded to 8 bit.

    >>> to_bytes(np.array([[[-0.5, 0.5, 1.5]]], dtype=np.float32)).tolist()
    [[[0, 128, 255]]]
    """
    scaled = image * np.float32(255.0)
    scaled += np.float32(0.5)
    np.clip(scaled, 0.0, 255.0, out=scaled)
    return scaled.astype(np.uint8)


def luma(image: FloatImage) -> NDArray[np.float32]:
    """Brightness ``(H, W, 1)`` in [0, 1] (ITU-R BT.601)."""
    return (image @ LUMA)[..., None]
