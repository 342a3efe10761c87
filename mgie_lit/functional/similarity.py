"""How alike two images or two feature vectors are, one number a sample.

Axes: ``B`` batch, ``D`` feature width, ``H W`` pixels, ``N`` planes (``3 B``: every colour of every image).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

RANGE_TOLERANCE = 1e-3  # how far outside [0, 1] rounding may carry a pixel
PSNR_CEILING = 100.0  # dB, given to identical images in place of infinity

SSIM_WINDOW = 11  # pixels; Wang et al. 2004, section III-B
SSIM_SIGMA = 1.5  # pixels
SSIM_C1 = 0.01**2  # (K1 * data range)^2
SSIM_C2 = 0.03**2  # (K2 * data range)^2

_CPU_WORKING_SET = 2**17  # pixels worked on at once: the maps of one strip stay in the cache
_DEVICE_WORKING_SET = 2**24  # the same on an accelerator, where few large kernels are faster
_MIN_STRIP = 64  # rows; neighbouring strips share 10 rows, which are blurred twice
_CENTRE = 0.5  # subtracted before squaring, so that float32 keeps the digits of small variances


def l1_distance(preds: Tensor, target: Tensor) -> Float[Tensor, " B"]:
    """Mean absolute difference of all pixels and colours; 0 is equal, 1 is black against white.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1].
        target: Same shape and range.

    Returns:
        ``(B,)``, dtype and device of ``preds``.

    Raises:
        ValueError: The inputs are not float image batches of one shape in [0, 1].

    >>> l1_distance(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.25))
    tensor([0.2500])
    """
    _check_images(preds, target)
    return _mean_distance(preds, target, torch.Tensor.abs_).to(preds.dtype)


def l2_distance(preds: Tensor, target: Tensor) -> Float[Tensor, " B"]:
    """Mean squared difference of all pixels and colours (no root), in [0, 1].

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1].
        target: Same shape and range.

    Returns:
        ``(B,)``, dtype and device of ``preds``.

    Raises:
        ValueError: The inputs are not float image batches of one shape in [0, 1].
    """
    _check_images(preds, target)
    return _mean_square(preds, target).to(preds.dtype)


def psnr(preds: Tensor, target: Tensor, *, ceiling: float = PSNR_CEILING) -> Float[Tensor, " B"]:
    """Peak signal-to-noise ratio in dB at a data range of 1: ``-10 log10(mean square)``.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1].
        target: Same shape and range.
        ceiling: dB given to images that are equal or nearly so; keeps means finite where a copy is perfect.

    Returns:
        ``(B,)`` in [0, ceiling], dtype and device of ``preds``.

    Raises:
        ValueError: The inputs are not float image batches of one shape in [0, 1].

    >>> psnr(torch.zeros(1, 3, 2, 2), torch.full((1, 3, 2, 2), 0.1))
    tensor([20.])
    """
    _check_images(preds, target)
    floor = 10.0 ** (-ceiling / 10.0)
    return _mean_square(preds, target).clamp_min(floor).log10().mul(-10.0).to(preds.dtype)


def ssim(preds: Tensor, target: Tensor) -> Float[Tensor, " B"]:
    """Structural similarity (Wang et al. 2004), mean over colours and over all windows that lie inside the image.

    Gaussian window of 11x11 pixels with sigma 1.5, population covariance, data range 1. Nothing is padded: equal to
    scikit-image's ``structural_similarity(gaussian_weights=True, sigma=1.5, use_sample_covariance=False,
    data_range=1)``, which drops the same border of 5 pixels.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1], both sides at least 11 pixels.
        target: Same shape and range.

    Returns:
        ``(B,)`` in [-1, 1], 1 = equal; dtype and device of ``preds``. Half precision is worked out in float32.

    Raises:
        ValueError: The inputs are not float image batches of one shape in [0, 1], or smaller than the window.
    """
    _check_windows(preds, target)
    batch, colours, height, width = preds.shape
    planes = _precise(preds).flatten(0, 1), _precise(target).flatten(0, 1)  # (N, H, W) each
    total = torch.zeros(batch * colours, dtype=planes[0].dtype, device=preds.device)
    budget = _budget(preds)
    rows = min(
        height - SSIM_WINDOW + 1, max(_MIN_STRIP, budget // width - SSIM_WINDOW + 1)
    )  # rows of windows in a strip
    count = max(1, budget // ((rows + SSIM_WINDOW - 1) * width))  # planes at once
    for chosen in _spans(batch * colours, count):
        for top in range(0, height - SSIM_WINDOW + 1, rows):
            strip = slice(top, top + rows + SSIM_WINDOW - 1)
            total[chosen] += _ssim_map(planes[0][chosen, strip], planes[1][chosen, strip]).sum((1, 2))
    windows = (height - SSIM_WINDOW + 1) * (width - SSIM_WINDOW + 1)
    return (total / windows).view(batch, colours).mean(1).to(preds.dtype)


def ssim_map(preds: Tensor, target: Tensor) -> Float[Tensor, "B 3 h w"]:
    """SSIM of every window inside the images, as :func:`ssim` averages them; 10 pixels smaller a side.

    Args:
        preds: ``(B, 3, H, W)`` float in [0, 1], both sides at least 11 pixels.
        target: Same shape and range.

    Returns:
        ``(B, 3, H - 10, W - 10)`` in [-1, 1], by the windows' centres; float32, or float64 for such images.

    Raises:
        ValueError: As :func:`ssim`.
    """
    _check_windows(preds, target)
    maps = [
        _ssim_map(_precise(one), _precise(other)) for one, other in zip(preds, target, strict=True)
    ]  # (3, H - 10, W - 10) each
    return torch.stack(maps)


def cosine_similarity(preds: Tensor, target: Tensor) -> Float[Tensor, " B"]:
    """Cosine of the angle between feature vectors.

    Args:
        preds: ``(B, D)`` float.
        target: Same shape.

    Returns:
        ``(B,)`` in [-1, 1], dtype and device of ``preds``.

    Raises:
        ValueError: The inputs are not two-dimensional and of one shape.

    >>> cosine_similarity(torch.tensor([[2.0, 0.0]]), torch.tensor([[1.0, 0.0]]))
    tensor([1.])
    """
    if preds.ndim != 2 or preds.shape != target.shape:
        raise ValueError(
            f"features: expected preds and target of one shape (B, D), got {tuple(preds.shape)} and "
            f"{tuple(target.shape)}; encode both with the same encoder"
        )
    return torch.nn.functional.cosine_similarity(_precise(preds), _precise(target), dim=1).to(preds.dtype)


def _check_images(preds: Tensor, target: Tensor) -> None:
    if preds.ndim != 4 or preds.shape[1] != 3 or preds.shape != target.shape:
        raise ValueError(
            f"images: expected preds and target of one shape (B, 3, H, W), got {tuple(preds.shape)} and "
            f"{tuple(target.shape)}; resize the prediction to the target's size"
        )
    for name, images in (("preds", preds), ("target", target)):
        if not images.is_floating_point():
            raise ValueError(f"{name}: expected float pixels in [0, 1], got {images.dtype}; use pil_to_unit")
        if not images.numel():
            raise ValueError(f"{name}: expected at least one image with pixels, got shape {tuple(images.shape)}")
        low, high = (float(bound) for bound in images.detach().aminmax())
        if not (low >= -RANGE_TOLERANCE and high <= 1.0 + RANGE_TOLERANCE):  # not: NaN fails too
            raise ValueError(f"{name}: expected pixels in [0, 1], got [{low:.3g}, {high:.3g}]; use to_unit")


def _check_windows(preds: Tensor, target: Tensor) -> None:
    _check_images(preds, target)
    height, width = preds.shape[-2:]
    if min(height, width) < SSIM_WINDOW:
        raise ValueError(
            f"ssim: expected images of at least {SSIM_WINDOW}x{SSIM_WINDOW} pixels, got {width}x{height} "
            "(width x height); leave such images out or compare them by l1"
        )


def _precise(values: Tensor) -> Tensor:
    return values if values.dtype == torch.float64 else values.float()


def _mean_square(preds: Tensor, target: Tensor) -> Tensor:
    return _mean_distance(preds, target, torch.Tensor.square_)


def _mean_distance(preds: Tensor, target: Tensor, distance: Callable[[Tensor], Tensor]) -> Tensor:
    """Mean of ``distance(preds - target)`` over each image: ``(B, 3, H, W)`` twice -> ``(B,)``.

    Images are worked out one by one, in parts that depend on their size alone: a score is the same to the last bit
    whatever images share its batch.
    """
    first, second = preds.flatten(1), target.flatten(1)  # (B, 3 H W) each
    total = torch.zeros(len(preds), dtype=_precise(preds[:0]).dtype, device=preds.device)
    for index in range(len(preds)):
        for part in _spans(first.shape[1], _budget(preds)):
            total[index] += distance(_precise(first[index, part]) - _precise(second[index, part])).sum()
    return total / first.shape[1]


def _budget(images: Tensor) -> int:
    return _CPU_WORKING_SET if images.device.type == "cpu" else _DEVICE_WORKING_SET


def _spans(length: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` (at least 1) that cover ``length``."""
    return (slice(first, first + max(1, size)) for first in range(0, length, max(1, size)))


def _ssim_map(preds: Tensor, target: Tensor) -> Tensor:
    """SSIM of every window inside two stacks of planes: ``(N, H, W)`` twice -> ``(N, H - 10, W - 10)``."""
    x, y = preds - _CENTRE, target - _CENTRE
    mean_x, mean_y, squares, product = (_blur(moment) for moment in (x, y, x * x + y * y, x * y))
    variances = squares.addcmul_(mean_x, mean_x, value=-1).addcmul_(mean_y, mean_y, value=-1)  # of x and y, summed
    covariance = product.addcmul_(mean_x, mean_y, value=-1)
    mean_x += _CENTRE
    mean_y += _CENTRE
    luminance = (2.0 * mean_x * mean_y + SSIM_C1) / (mean_x.square() + mean_y.square() + SSIM_C1)
    structure = covariance.mul_(2.0).add_(SSIM_C2) / variances.add_(SSIM_C2)
    return luminance.mul_(structure)


def _blur(planes: Tensor) -> Tensor:
    """Gaussian mean of every window inside the planes: ``(N, H, W)`` -> ``(N, H - 10, W - 10)``.

    Two passes of shifted sums: several times faster on a CPU than a convolution with one channel.
    """
    weights = _gaussian_weights()
    for axis in (1, 2):
        length = planes.shape[axis] - SSIM_WINDOW + 1
        blurred = planes.narrow(axis, 0, length) * weights[0]
        for offset in range(1, SSIM_WINDOW):
            blurred.add_(planes.narrow(axis, offset, length), alpha=weights[offset])
        planes = blurred
    return planes


def _gaussian_weights() -> list[float]:
    radius = SSIM_WINDOW // 2
    weights = [math.exp(-0.5 * (offset / SSIM_SIGMA) ** 2) for offset in range(-radius, radius + 1)]
    return [weight / sum(weights) for weight in weights]
