from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.metrics import masked
from mgie_lit.metrics.masked import L1Inside, L1Outside, MaskedMetric, PSNROutside, SSIMInside, SSIMOutside

KINDS = [getattr(masked, name + side) for name in ("L1", "L2", "PSNR", "SSIM") for side in ("Inside", "Outside")]


def half_mask(width: int = 20, height: int = 16) -> Image.Image:
    levels = np.zeros((height, width), dtype=np.uint8)
    levels[:, : width // 2] = 255
    return Image.fromarray(levels)


def test_sides_of_the_mask() -> None:
    target = torch.full((1, 3, 16, 20), 0.5)
    preds = target.clone()
    preds[..., :10] += 0.25
    assert L1Inside().score(preds, target, [half_mask()]).item() == pytest.approx(0.25)
    assert L1Outside().score(preds, target, [half_mask()]).item() == 0.0
    assert PSNROutside().score(preds, target, [half_mask()]).item() == 100.0
    assert SSIMInside().score(preds, target, [half_mask()]) < SSIMOutside().score(preds, target, [half_mask()])


@pytest.mark.parametrize("kind", KINDS)
def test_samples_without_a_mask_are_left_out(kind: type[MaskedMetric]) -> None:
    metric = kind()
    preds, target = torch.rand(2, 3, 3, 16, 20)
    masks = [None, half_mask(), Image.new("L", (20, 16), 255 if "outside" in metric.name else 0)]
    scores = metric.score(preds, target, masks)
    assert scores.isnan().tolist() == [True, False, True]
    metric.update(preds, target, masks)
    assert metric.compute().item() == pytest.approx(scores[1].item(), abs=1e-6)
    assert metric.scores_images


@pytest.mark.parametrize("kind", KINDS)
def test_region_and_direction_are_described(kind: type[MaskedMetric]) -> None:
    described = kind().describe()
    side = "inside" if kind.__name__.endswith("Inside") else "outside"
    assert described["region"] == f"{side} the mask"
    assert described["higher_is_better"] is kind.__name__.startswith(("PSNR", "SSIM"))
    assert kind.name == f"{kind.__name__.removesuffix('Inside').removesuffix('Outside').lower()}_{side}"


def test_small_images_have_no_ssim() -> None:
    tiny = torch.rand(1, 3, 10, 30)
    assert SSIMInside().score(tiny, tiny, [half_mask(30, 10)]).isnan().item()
    assert not L1Inside().score(tiny, tiny, [half_mask(30, 10)]).isnan().item()
