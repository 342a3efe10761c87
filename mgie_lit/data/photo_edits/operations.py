"""Global photo edits: the same function of every pixel (blur and sharpening: of its neighbourhood).

All take float32 ``(H, W, 3)`` RGB in [0, 1] and return the same shape; results may leave [0, 1] until they are clipped.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np

from mgie_lit.data.photo_edits.pixels import luma

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from mgie_lit.data.photo_edits.pixels import FloatImage

DARK_BELOW, BRIGHT_ABOVE = 0.27, 0.68  # mean luma at which a photograph counts as badly exposed
FINE_RANGE = (0.32, 0.62)  # mean luma of photographs that are surely well exposed
BLUR_SIGMA = 1 / 40  # standard deviation as a share of the shorter side: 1.6 pixels at 64
SHARPEN_SIGMA = 1 / 64  # radius of the unsharp mask, same unit
SHARPEN_AMOUNT = 1.5  # how much of the removed detail is added


def gamma(image: FloatImage, exponent: float) -> FloatImage:
    """Power of each value: below 1 brightens, above 1 darkens."""
    return np.power(image, np.float32(exponent))


def contrast(image: FloatImage, factor: float) -> FloatImage:
    """Distance to middle gray times ``factor``."""
    return (image - np.float32(0.5)) * np.float32(factor) + np.float32(0.5)


def saturation(image: FloatImage, factor: float) -> FloatImage:
    """Distance to the pixel's own gray times ``factor``; 0 is grayscale."""
    gray = luma(image)
    return gray + (image - gray) * np.float32(factor)


def channel_gains(image: FloatImage, gains: tuple[float, float, float]) -> FloatImage:
    """Red, green and blue times their gain."""
    return image * np.array(gains, dtype=np.float32)


def negative(image: FloatImage) -> FloatImage:
    """One minus each value."""
    return np.float32(1.0) - image


def blur(image: FloatImage, sigma_share: float = BLUR_SIGMA) -> FloatImage:
    """Gaussian blur with reflected borders, ``sigma_share`` of the shorter side wide."""
    sigma = sigma_share * min(image.shape[:2])
    radius = min(max(1, round(3 * sigma)), min(image.shape[:2]) - 1)
    weights = np.exp(-0.5 * (np.arange(-radius, radius + 1) / max(sigma, 1e-6)) ** 2)
    weights = (weights / weights.sum()).astype(np.float32)
    padded = np.pad(image, ((radius, radius), (radius, radius), (0, 0)), mode="reflect")
    height, width = image.shape[:2]
    rows = sum(weight * padded[start : start + height] for start, weight in enumerate(weights))
    return np.asarray(sum(weight * rows[:, start : start + width] for start, weight in enumerate(weights)))


def sharpen(image: FloatImage) -> FloatImage:
    """Unsharp mask: the detail that a small blur removes, added on top."""
    return image + np.float32(SHARPEN_AMOUNT) * (image - blur(image, SHARPEN_SIGMA))


def exposure(image: FloatImage) -> Literal["dark", "fine", "bright", "unclear"]:
    """Judge the exposure by mean luma; between the ranges nobody could say, hence ``unclear``.

    >>> exposure(np.full((4, 4, 3), 0.1, dtype=np.float32))
    'dark'
    """
    level = float(luma(image).mean())
    if level < DARK_BELOW:
        return "dark"
    if level > BRIGHT_ABOVE:
        return "bright"
    return "fine" if FINE_RANGE[0] <= level <= FINE_RANGE[1] else "unclear"


GLOBAL_OPERATIONS: dict[str, Callable[[FloatImage], NDArray[np.float32]]] = {
    "brighter": lambda image: gamma(image, 0.55),
    "darker": lambda image: gamma(image, 1.9),
    "more_contrast": lambda image: contrast(image, 1.7),
    "less_contrast": lambda image: contrast(image, 0.45),
    "more_saturation": lambda image: saturation(image, 1.9),
    "less_saturation": lambda image: saturation(image, 0.35),
    "warmer": lambda image: channel_gains(image, (1.2, 1.02, 0.68)),
    "cooler": lambda image: channel_gains(image, (0.68, 0.98, 1.25)),
    "grayscale": lambda image: saturation(image, 0.0),
    "negative": negative,
}
DETAIL_OPERATIONS: dict[str, Callable[[FloatImage], NDArray[np.float32]]] = {"blurrier": blur, "sharper": sharpen}
