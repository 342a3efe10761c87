"""Carry an edit that was made at a low resolution to the photograph's own resolution.

The edited thumbnail is never enlarged where that can be avoided. What is carried is the *change of colour*, applied to
the sharp source, in three layers:

1. One colour map for the whole image, a robust fit of edited on source colours. It averages the noise of thousands of
   pixels away, so exposure, contrast, tint, grayscale or negative arrive nearly exactly, without blotches.
2. Where that map leaves more than noise, a correction that is affine in the source's colour and varies slowly over the
   image (fast guided filter with a colour guide: He and Sun, "Fast Guided Filter", arXiv:1505.00996; the same local
   model as bilateral guided upsampling, Chen et al. 2016). It recolours or removes an object along the source's edges.
3. Where no affine map explains the edit either (a new object), the enlarged edit itself, soft but right.

Axes: ``H W`` pixels of the photograph, ``h w`` pixels at the working resolution, ``F`` colour features, ``N`` pixels in
a row, ``C`` colours of the result.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - PyTorch's own name for it
from jaxtyping import Float
from torch import Tensor

RANGE_TOLERANCE = 1e-3  # how far outside [0, 1] rounding may carry a pixel
CLIP_MARGIN = 1 / 255  # a result this near to 0 or 1 may have been clipped

NUM_FEATURES = 16  # 1, three first powers, six second, three third, three square roots
AFFINE_RIDGE = 1e-6  # pull of the affine part towards the unchanged colour, per pixel
CURVE_RIDGE = 1e-5  # pull of all other features towards 0: colours that the thumbnail lacks follow the affine part
ROBUST_STEPS = 8  # reweighted solves; the fit stands still after about five
ROBUST_FLOOR = 0.04  # least noise (colour distance) that the fit assumes; lower ones reject true colours
TUKEY_REACH = 4.0  # residuals beyond this many noise levels have no weight
MISFIT_SCALE = 0.05  # colour distance at which a pixel counts as half explained when two fits are compared
LOCAL_SHARE = 0.1  # an edit of less than this share of the image is local, though colour could tell it apart

NOISE_FLOOR = 0.02  # least noise (root mean square colour distance) that the local layers assume
NOISE_REACH = (2.25, 4.5)  # noise levels from which a deviation starts to count and counts fully
GUIDE_RADIUS = 2  # low-resolution pixels: windows of 5x5
GUIDE_RIDGE = 1e-3  # colour variance below which a window counts as flat (eps of arXiv:1505.00996, eq. 3)

_STRIP_PIXELS = 2**16  # pixels worked on at once on a CPU: the features of one strip stay in the cache
_DEVICE_STRIP_PIXELS = 2**22  # the same on an accelerator, where few large kernels are faster


def transfer_edit(source_full: Tensor, source_low: Tensor, edited_low: Tensor) -> Float[Tensor, "3 H W"]:
    """Apply to a photograph the edit that was made to its small copy.

    Detail comes from ``source_full``, colour change from the pair of small images. Deviations below about twice the
    edit's own noise (estimated from it) are taken for noise and dropped; so is a weak vignette. Detail that the edit
    itself invents can only arrive at the low resolution; blurring or sharpening does not arrive at all.

    Args:
        source_full: ``(3, H, W)`` float32 RGB in [0, 1], the photograph; at least 1x1.
        source_low: ``(3, h, w)`` float32 RGB in [0, 1], the whole photograph resized; its aspect ratio may differ.
        edited_low: ``(3, h, w)`` float32 RGB in [0, 1], the edit of ``source_low``.

    Returns:
        ``(3, H, W)`` float32 in [0, 1] on the photograph's device; equal to it where the edit changed nothing.

    Raises:
        ValueError: A tensor is no float32 RGB image in [0, 1], or the two small images differ in size.

    >>> photograph = torch.rand(3, 6, 8).repeat_interleave(8, dim=1).repeat_interleave(8, dim=2)
    >>> small = torch.nn.functional.interpolate(photograph[None], size=(12, 16), mode="area")[0]
    >>> negative = transfer_edit(photograph, small, 1 - small)
    >>> bool((negative - (1 - photograph)).abs().mean() < 0.01)
    True
    """
    for name, image in (("source_full", source_full), ("source_low", source_low), ("edited_low", edited_low)):
        _check_image(name, image)
    if source_low.shape != edited_low.shape:
        raise ValueError(
            f"edited_low: expected the size of source_low, {tuple(source_low.shape)}, got {tuple(edited_low.shape)}; "
            "hand in the very image that was edited"
        )
    source_low, edited_low = source_low.to(source_full), edited_low.to(source_full)
    colour_map = _fit_colour_map(source_low.flatten(1), edited_low.flatten(1))  # (F, C)
    correction = _fit_correction(source_low, edited_low, _apply_colour_map(source_low, colour_map))
    return _apply(source_full, colour_map, correction)


def _check_image(name: str, image: Tensor) -> None:
    if image.dtype != torch.float32 or image.ndim != 3 or image.shape[0] != 3 or image.numel() == 0:
        raise ValueError(
            f"{name}: expected a float32 image of shape (3, height, width), got {image.dtype} {tuple(image.shape)}; "
            "make one with mgie_lit.functional.images.pil_to_unit"
        )
    low, high = (value.item() for value in image.aminmax())
    if not (low >= -RANGE_TOLERANCE and high <= 1 + RANGE_TOLERANCE):  # so written, NaN fails too
        raise ValueError(
            f"{name}: expected pixels in [0, 1], got [{low:.4g}, {high:.4g}]; "
            "convert them with mgie_lit.functional.images.to_unit"
        )


# ---- layer 1: one colour map for the whole image


def _colour_features(pixels: Float[Tensor, "3 N"]) -> Float[Tensor, "F N"]:
    """Powers of a colour up to the third, products of two channels, and square roots (for gammas below 1)."""
    features = pixels.new_empty(NUM_FEATURES, pixels.shape[1])
    features[0] = 1.0
    features[1:4] = pixels
    torch.mul(pixels, pixels, out=features[4:7])
    torch.mul(pixels, pixels[[1, 2, 0]], out=features[7:10])  # rg, gb, br
    torch.mul(features[4:7], pixels, out=features[10:13])
    torch.sqrt(pixels.clamp_min(0.0).add_(CLIP_MARGIN), out=features[13:16])  # shifted: finite slope at black
    return features


def _fit_colour_map(source: Float[Tensor, "3 N"], edited: Float[Tensor, "3 N"]) -> Float[Tensor, "F C"]:
    """The colour map that explains most pixels of the edit, untouched by the others.

    Two fits start from "everything changed" and from "nothing changed". The second wins unless the first explains at
    least ``LOCAL_SHARE`` of the image more: else the colour of a removed object would be bent into its surroundings'
    everywhere, which amplifies that object's texture into speckles.
    """
    features, target = _colour_features(source.double()), edited.double()
    identity = features.new_zeros(NUM_FEATURES, 3)
    identity[1:4] = torch.eye(3)
    everything = _solve_ridge(features, target, torch.ones_like(target[0]), identity)
    fits = [_refine(features, target, start, identity) for start in (everything, identity)]
    misfit = [_misfit(features, target, fit) for fit in fits]
    return fits[0 if misfit[0] + LOCAL_SHARE <= misfit[1] else 1].to(source.dtype)


def _solve_ridge(
    features: Float[Tensor, "F N"],
    target: Float[Tensor, "C N"],
    weights: Float[Tensor, " N"],
    prior: Float[Tensor, "F C"],
) -> Float[Tensor, "F C"]:
    """Weighted least squares with a small pull towards ``prior``, which decides for colours that do not occur."""
    weighted = features * weights
    ridge = torch.full_like(features[:, 0], CURVE_RIDGE * features.shape[1])
    ridge[:4] *= AFFINE_RIDGE / CURVE_RIDGE
    normal = weighted @ features.T + torch.diag(ridge)
    colour_map: Tensor = torch.linalg.solve(normal, weighted @ target.T + ridge[:, None] * prior)
    return colour_map


def _refine(
    features: Float[Tensor, "F N"],
    target: Float[Tensor, "C N"],
    start: Float[Tensor, "F C"],
    prior: Float[Tensor, "F C"],
) -> Float[Tensor, "F C"]:
    """Iteratively reweighted least squares with Tukey's biweight: pixels far from the map lose their say."""
    colour_map = start
    for _ in range(ROBUST_STEPS):
        preds = colour_map.T @ features
        residual = _unclipped_residual(preds, target)
        distance = residual.norm(dim=0)
        reach = TUKEY_REACH * (1.4826 * distance.median()).clamp_min(ROBUST_FLOOR)
        weights = (1 - (distance / reach).clamp_max(1.0).square()).square()
        colour_map = _solve_ridge(features, preds + residual, weights, prior)
    return colour_map


def _unclipped_residual(preds: Float[Tensor, "C N"], target: Float[Tensor, "C N"]) -> Float[Tensor, "C N"]:
    """Target minus prediction; zero where the target sits on 0 or 1 and the prediction lies beyond (was clipped)."""
    clipped = ((target <= CLIP_MARGIN) & (preds < target)) | ((target >= 1 - CLIP_MARGIN) & (preds > target))
    return (target - preds).masked_fill(clipped, 0.0)


def _misfit(features: Float[Tensor, "F N"], target: Float[Tensor, "C N"], colour_map: Float[Tensor, "F C"]) -> float:
    """Share of the image that a colour map does not explain, in [0, 1) (Geman and McClure's bounded error)."""
    square = _unclipped_residual(colour_map.T @ features, target).square().sum(dim=0)
    return float((square / (square + MISFIT_SCALE**2)).mean())


def _apply_colour_map(image: Float[Tensor, "3 _ _"], colour_map: Float[Tensor, "F C"]) -> Float[Tensor, "3 _ _"]:
    return (colour_map.T @ _colour_features(image.flatten(1))).clamp_(0.0, 1.0).view(image.shape)


# ---- layers 2 and 3: what the colour map leaves


def _fit_correction(
    source: Float[Tensor, "3 h w"], edited: Float[Tensor, "3 h w"], mapped: Float[Tensor, "3 h w"]
) -> Float[Tensor, "13 h w"] | None:
    """Fields of ``keep * mapped + slopes @ source + offset``: keep (1), slopes (3x3), offset (3); None = no change.

    With ``trust`` the weight of the local affine map and ``replace`` the weight of the plain enlarged edit, both in
    [0, 1]: ``keep = 1 - replace``, ``slopes = trust * keep * A``, ``offset = trust * keep * b + replace * edited``.
    """
    deviation = edited - mapped
    # the median length of a 3-vector of normal numbers is 0.89 of its root mean square
    noise = (deviation.norm(dim=0).median() / 0.89).clamp_min(NOISE_FLOOR)
    trust = _significance(deviation, noise)
    if not bool(trust.any()):
        return None
    trust = _blur(F.max_pool2d(trust[None], 5, stride=1, padding=2)[0], 1)  # reaches past the object's edges
    slopes, offset = _guided_affine(source, deviation)
    local = mapped + torch.einsum("dchw,chw->dhw", slopes, source) + offset
    replace = trust * _significance(edited - local, noise)
    keep = 1 - replace
    return torch.cat([keep, (trust * keep * slopes).flatten(0, 1), trust * keep * offset + replace * edited])


def _significance(deviation: Float[Tensor, "3 h w"], noise: Tensor) -> Float[Tensor, "1 h w"]:
    """0 where a deviation (3x3 mean) may be noise, 1 where it can not be, smooth between."""
    start, full = NOISE_REACH
    level = _blur(deviation.square().sum(dim=0, keepdim=True), 1).sqrt() / noise
    step = ((level - start) / (full - start)).clamp(0.0, 1.0)
    return step.square() * (3 - 2 * step)


def _guided_affine(
    guide: Float[Tensor, "3 h w"], target: Float[Tensor, "3 h w"]
) -> tuple[Float[Tensor, "3 3 h w"], Float[Tensor, "3 h w"]]:
    """Slopes and offset of the colour guided filter (arXiv:1505.00996, section 2), averaged over the windows."""

    def mean(fields: Float[Tensor, "n h w"]) -> Float[Tensor, "n h w"]:
        return _blur(fields, GUIDE_RADIUS)

    size = guide.shape[1:]
    guide_mean, target_mean = mean(guide), mean(target)
    variance = mean((guide[:, None] * guide).flatten(0, 1)).view(3, 3, *size) - guide_mean[:, None] * guide_mean
    covariance = mean((guide[:, None] * target).flatten(0, 1)).view(3, 3, *size) - guide_mean[:, None] * target_mean
    ridge = GUIDE_RIDGE * torch.eye(3, dtype=guide.dtype, device=guide.device)
    solved = torch.linalg.solve(variance.permute(2, 3, 0, 1) + ridge, covariance.permute(2, 3, 0, 1))  # (h, w, 3, 3)
    slopes = solved.permute(3, 2, 0, 1)  # (target, guide, h, w)
    offset = target_mean - torch.einsum("dchw,chw->dhw", slopes, guide_mean)
    return mean(slopes.flatten(0, 1)).view_as(slopes), mean(offset)


def _blur(fields: Float[Tensor, "n h w"], radius: int) -> Float[Tensor, "n h w"]:
    """Mean over squares of ``2 radius + 1`` pixels; the border is repeated."""
    padded = F.pad(fields[None], (radius,) * 4, mode="replicate")
    return F.avg_pool2d(padded, 2 * radius + 1, stride=1)[0]


# ---- at full resolution


def _apply(
    source: Float[Tensor, "3 H W"], colour_map: Float[Tensor, "F C"], correction: Float[Tensor, "13 _ _"] | None
) -> Float[Tensor, "3 H W"]:
    """Work through the photograph in strips of rows, so that features and fields never exist for all of it."""
    height, width = source.shape[1:]
    if correction is not None:
        correction = _stretch_columns(_shrink(correction, height, width), width)  # (13, h, W)
    edited = torch.empty_like(source)
    rows = max(1, (_STRIP_PIXELS if source.device.type == "cpu" else _DEVICE_STRIP_PIXELS) // width)
    for top in range(0, height, rows):
        strip = source[:, top : top + rows].contiguous()
        mapped = _apply_colour_map(strip, colour_map)
        if correction is not None:
            fields = _stretch_rows(correction, top, strip.shape[1], height)
            mapped = mapped.mul_(fields[:1]).add_(fields[10:])
            slopes = fields[1:10].view(3, 3, *mapped.shape[1:])
            for channel in range(3):
                mapped.addcmul_(slopes[:, channel], strip[channel])
            mapped.clamp_(0.0, 1.0)
        edited[:, top : top + rows] = mapped
    return edited


def _shrink(fields: Float[Tensor, "n _ _"], height: int, width: int) -> Float[Tensor, "n _ _"]:
    """Average the fields of a photograph that is smaller than the working resolution; others stay as they are."""
    size = (min(height, fields.shape[1]), min(width, fields.shape[2]))
    if size == tuple(fields.shape[1:]):
        return fields
    return F.interpolate(fields[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]


def _stretch_columns(fields: Float[Tensor, "n h w"], width: int) -> Float[Tensor, "n h W"]:
    """Interpolate linearly along the rows."""
    size = (fields.shape[1], width)
    return F.interpolate(fields[None], size=size, mode="bilinear", align_corners=False)[0]


def _stretch_rows(fields: Float[Tensor, "n h W"], top: int, rows: int, height: int) -> Float[Tensor, "n r W"]:
    """Rows ``top .. top + rows - 1`` of the fields interpolated linearly to ``height`` rows."""
    scale, last = fields.shape[1] / height, fields.shape[1] - 1
    positions = torch.arange(top, top + rows, dtype=fields.dtype, device=fields.device)
    positions = ((positions + 0.5) * scale - 0.5).clamp_(0.0, float(last))
    first = int(positions[0])
    stop = min(int(positions[-1]) + 1, last) + 1
    grid = torch.arange(first, stop, dtype=fields.dtype, device=fields.device)
    weights = (1 - (positions[:, None] - grid).abs()).clamp_min_(0.0)  # (r, stop - first): hat functions
    return weights @ fields[:, first:stop]
