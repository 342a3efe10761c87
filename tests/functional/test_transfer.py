from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from PIL import Image, ImageDraw
from skimage import data
from torch import Tensor

from mgie_lit.functional import transfer
from mgie_lit.functional.images import pil_to_unit
from mgie_lit.functional.transfer import transfer_edit

if TYPE_CHECKING:
    from collections.abc import Callable

LUMINANCE = torch.tensor([0.299, 0.587, 0.114])[:, None, None]


def luminance(image: Tensor) -> Tensor:
    return (image * LUMINANCE).sum(0, keepdim=True)


def gains(*values: float) -> Tensor:
    return torch.tensor(values)[:, None, None]


GLOBAL_EDITS: dict[str, Callable[[Tensor], Tensor]] = {
    "brighter": lambda i: i**0.55,
    "darker": lambda i: i**1.9,
    "contrast": lambda i: (i - 0.5) * 1.7 + 0.5,
    "flat": lambda i: (i - 0.5) * 0.45 + 0.5,
    "saturate": lambda i: luminance(i) + (i - luminance(i)) * 1.9,
    "desaturate": lambda i: luminance(i) + (i - luminance(i)) * 0.35,
    "warm": lambda i: i * gains(1.2, 1.02, 0.68),
    "cool": lambda i: i * gains(0.68, 0.98, 1.25),
    "gray": lambda i: luminance(i).expand(3, -1, -1),
    "negative": lambda i: 1 - i,
}


def edit(name: str, image: Tensor) -> Tensor:
    return GLOBAL_EDITS[name](image).clamp(0, 1).mul(255).round().div(255)


def resized(image: Tensor, height: int, width: int) -> Tensor:
    return F.interpolate(image[None], size=(height, width), mode="bicubic", antialias=True)[0].clamp(0, 1)


@cache
def photograph(name: str) -> Tensor:
    return pil_to_unit(Image.fromarray(getattr(data, name)()))


def blotches(height: int, width: int, seed: int = 0) -> Tensor:
    """Error of a small generator: smooth colour blotches and fine noise, mean absolute value near 0.02."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(1, 3, height // 4, width // 4, generator=generator)
    smooth = F.interpolate(coarse, size=(height, width), mode="bicubic")[0]
    return smooth / smooth.abs().mean() * 0.017 + 0.008 * torch.randn(3, height, width, generator=generator)


def psnr(preds: Tensor, target: Tensor) -> float:
    return float(-10 * (preds - target).square().mean().clamp_min(1e-10).log10())


def sharpness(image: Tensor) -> float:
    return float(image.diff(dim=1).square().mean() + image.diff(dim=2).square().mean())


def scene(*shapes: tuple[str, tuple[int, int, int, int], str], background: str = "#c8d7e6") -> Tensor:
    image = Image.new("RGB", (768, 768), background)
    draw = ImageDraw.Draw(image)
    for kind, box, colour in shapes:
        getattr(draw, kind)(box, fill=colour)
    return pil_to_unit(image.resize((256, 256), Image.Resampling.BOX))  # drawn larger: soft edges


SQUARE = ("rectangle", (100, 110, 300, 310), "#c83232")
DISC = ("ellipse", (420, 120, 660, 360), "#3250c8")
BAR = ("rectangle", (150, 500, 620, 600), "#28823c")


@pytest.mark.parametrize("name", ["astronaut", "coffee", "rocket"])
def test_an_untouched_image_stays_as_it_is(name: str) -> None:
    source = photograph(name)
    low = resized(source, 56, 72)
    assert (transfer_edit(source, low, low) - source).abs().max() < 1e-3


@pytest.mark.parametrize("name", sorted(GLOBAL_EDITS))
def test_a_global_edit_arrives_at_full_resolution(name: str) -> None:
    for photo in ("astronaut", "rocket"):
        source = photograph(photo)
        low = resized(source, 64, 64)
        carried = transfer_edit(source, low, edit(name, low))
        # measured over both photographs: 39.5 dB (contrast) to 58 dB; enlarging the small edit gives 20 to 31 dB
        assert psnr(carried, edit(name, source)) > (38 if name == "contrast" else 43)


@pytest.mark.parametrize("name", sorted(GLOBAL_EDITS))
def test_a_noisy_edit_arrives_cleaner_than_it_was(name: str) -> None:
    source = photograph("coffee")
    low = resized(source, 56, 80)
    exact = edit(name, low)
    noisy = (exact + blotches(56, 80)).clamp(0, 1)
    carried = transfer_edit(source, low, noisy)
    target = edit(name, source)
    assert psnr(carried, target) > 34
    assert psnr(carried, target) > psnr(noisy, exact) + 0.5
    assert psnr(carried, target) > psnr(resized(noisy, *source.shape[1:]), target) + 6


@pytest.mark.parametrize("name", ["brighter", "gray", "negative", "saturate"])
def test_sharpness_is_the_true_edits_and_not_the_thumbnails(name: str) -> None:
    source = photograph("astronaut")
    low = resized(source, 64, 64)
    noisy = (edit(name, low) + blotches(64, 64)).clamp(0, 1)
    wanted = sharpness(edit(name, source))
    assert sharpness(transfer_edit(source, low, noisy)) == pytest.approx(wanted, rel=0.1)
    assert sharpness(resized(noisy, 512, 512)) < 0.4 * wanted


@pytest.mark.parametrize("noisy", [False, True])
@pytest.mark.parametrize(
    "target",
    [
        pytest.param(scene(DISC, BAR), id="remove the square"),
        pytest.param(scene(SQUARE, BAR), id="remove the disc"),
        pytest.param(scene((*SQUARE[:2], "#e6c828"), DISC, BAR), id="recolour the square"),
        pytest.param(scene(SQUARE, DISC, BAR, background="#503c28"), id="change the background"),
    ],
)
def test_a_local_edit_of_a_drawn_scene_arrives(target: Tensor, noisy: bool) -> None:
    source = scene(SQUARE, DISC, BAR)
    low, edited = resized(source, 64, 64), resized(target, 64, 64)
    if noisy:
        edited = (edited + blotches(64, 64)).clamp(0, 1)
    carried = transfer_edit(source, low, edited)
    changed = (target - source).abs().amax(0) > 0.05
    error = (carried - target).abs()
    assert error[:, changed].mean() < (0.03 if noisy else 0.015)
    assert error[:, ~changed].mean() < (0.01 if noisy else 0.003)
    assert psnr(carried, target) > psnr(resized(edited, 256, 256), target) + 5


def test_a_removed_object_leaves_no_edges_or_texture() -> None:
    texture = 0.02 * torch.randn(3, 256, 256, generator=torch.Generator().manual_seed(0))
    source = (scene(SQUARE, DISC, BAR) + texture).clamp(0, 1)
    target = (scene(SQUARE, BAR) + texture).clamp(0, 1)
    edited = (resized(target, 64, 64) + blotches(64, 64)).clamp(0, 1)
    carried = transfer_edit(source, resized(source, 64, 64), edited)
    place = (slice(None), slice(30, 130), slice(130, 230))  # the disc and its surroundings
    assert sharpness(carried[place]) < 1.3 * sharpness(target[place])
    assert sharpness(source[place]) > 1.5 * sharpness(target[place])


def test_an_edit_with_its_own_structure_arrives_softly() -> None:
    source = scene(BAR)
    target = scene(SQUARE, DISC, BAR)  # objects that the source does not have
    edited = resized(target, 64, 64)
    carried = transfer_edit(source, resized(source, 64, 64), edited)
    assert psnr(carried, target) > psnr(resized(edited, 256, 256), target) - 3
    assert psnr(carried, target) > psnr(source, target) + 8


def test_two_objects_of_one_colour_are_told_apart() -> None:
    twin = ("rectangle", (420, 420, 620, 620), SQUARE[2])
    source, target = scene(SQUARE, twin), scene(twin)
    carried = transfer_edit(source, resized(source, 64, 64), resized(target, 64, 64))
    assert (carried - target).abs().mean() < 0.003
    assert (carried - target)[:, 160:190, 160:190].abs().max() < 0.02


@pytest.mark.parametrize(
    ("full", "low"),
    [((1, 1), (8, 8)), ((1, 300), (8, 24)), ((300, 1), (24, 8)), ((5, 7), (64, 64)), ((40, 30), (72, 56))],
)
def test_small_and_narrow_images(full: tuple[int, int], low: tuple[int, int]) -> None:
    source = resized(photograph("coffee"), *full)
    small = resized(source, *low)
    edited = small.clone()
    edited[:, : low[0] // 2] = 1 - small[:, : low[0] // 2]  # a local edit: all layers run
    assert (transfer_edit(source, small, small) - source).abs().max() < 1e-3
    assert (transfer_edit(source, small, 1 - small) - (1 - source)).abs().max() < 0.02
    carried = transfer_edit(source, small, edited)
    assert carried.shape == source.shape
    assert carried.isfinite().all()
    assert carried.min() >= 0
    assert carried.max() <= 1


@pytest.mark.parametrize("colour", [0.0, 0.3, 1.0])
def test_a_constant_image(colour: float) -> None:
    source, low = torch.full((3, 50, 70), colour), torch.full((3, 56, 72), colour)
    for wanted in (0.0, 0.7, 1.0):
        carried = transfer_edit(source, low, torch.full_like(low, wanted))
        assert (carried - wanted).abs().max() < 0.01


def test_strips_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = scene(SQUARE, DISC), scene(DISC)
    low, edited = resized(source, 64, 64), resized(target, 64, 64)
    whole = transfer_edit(source, low, edited)
    monkeypatch.setattr(transfer, "_STRIP_PIXELS", 256 * 7)
    torch.testing.assert_close(transfer_edit(source, low, edited), whole, atol=1e-5, rtol=0)


def test_fields_are_stretched_as_by_torch() -> None:
    fields = torch.rand(2, 7, 5)
    columns = transfer._stretch_columns(fields, 33)
    rows = torch.cat([transfer._stretch_rows(columns, top, 6, 42) for top in range(0, 42, 6)], dim=1)
    expected = F.interpolate(fields[None], size=(42, 33), mode="bilinear", align_corners=False)[0]
    torch.testing.assert_close(rows, expected, atol=1e-5, rtol=0)


def test_the_guided_filter_is_the_plain_one() -> None:
    """Against the formulas of the paper, one window at a time."""
    generator = np.random.default_rng(0)
    guide, target = generator.random((3, 9, 8)), generator.random((3, 9, 8))
    slopes, offset = transfer._guided_affine(torch.from_numpy(guide).float(), torch.from_numpy(target).float())
    padded = [np.pad(image, ((0, 0), (4, 4), (4, 4)), mode="edge") for image in (guide, target)]

    def window(row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
        cut = (slice(None), slice(row, row + 5), slice(column, column + 5))
        pixels, wanted = (image[cut].reshape(3, -1) for image in padded)
        covariance = np.cov(np.vstack([pixels, wanted]), bias=True)
        slope = np.linalg.solve(covariance[:3, :3] + transfer.GUIDE_RIDGE * np.eye(3), covariance[:3, 3:]).T
        return slope, wanted.mean(1) - slope @ pixels.mean(1)

    row, column = 4, 3  # far enough from the border that its windows lie inside the image
    around = [window(row + down, column + right) for down in range(5) for right in range(5)]
    np.testing.assert_allclose(slopes[:, :, row, column], np.mean([slope for slope, _ in around], 0), atol=1e-4)
    np.testing.assert_allclose(offset[:, row, column], np.mean([value for _, value in around], 0), atol=1e-4)


def test_inputs_are_left_alone() -> None:
    source, low = torch.rand(3, 40, 40), torch.rand(3, 16, 16)
    edited = 1 - low
    before = [image.clone() for image in (source, low, edited)]
    result = transfer_edit(source, low, edited)
    assert result.dtype == torch.float32
    assert all(torch.equal(image, copy) for image, copy in zip((source, low, edited), before, strict=True))


def test_the_result_repeats_exactly() -> None:
    source, low = torch.rand(3, 40, 40), torch.rand(3, 16, 16)
    edited = torch.rand(3, 16, 16)
    assert torch.equal(transfer_edit(source, low, edited), transfer_edit(source, low, edited))


@pytest.mark.parametrize(
    ("name", "image", "message"),
    [
        ("source_full", torch.zeros(3, 8, 8, dtype=torch.uint8), r"source_full: expected a float32 .* got torch.uint8"),
        ("source_low", torch.zeros(1, 8, 8), r"source_low: expected a float32 .* \(1, 8, 8\); make one with"),
        ("edited_low", torch.zeros(1, 3, 8, 8), r"edited_low: expected a float32 .* \(1, 3, 8, 8\)"),
        ("source_full", torch.zeros(3, 0, 8), r"source_full: expected a float32 .* \(3, 0, 8\)"),
        ("edited_low", torch.full((3, 8, 8), -1.0), r"edited_low: expected pixels in \[0, 1\], got \[-1, -1\]"),
        (
            "source_full",
            torch.full((3, 8, 8), torch.nan),
            r"source_full: expected pixels in .* got \[nan, nan\]",
        ),
        (
            "edited_low",
            torch.zeros(3, 8, 9),
            r"edited_low: expected the size of source_low, .* got \(3, 8, 9\)",
        ),
    ],
)
def test_wrong_inputs(name: str, image: Tensor, message: str) -> None:
    images = {key: torch.zeros(3, 8, 8) for key in ("source_full", "source_low", "edited_low")}
    with pytest.raises(ValueError, match=message):
        transfer_edit(**(images | {name: image}))
