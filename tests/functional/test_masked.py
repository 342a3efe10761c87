from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity

from mgie_lit.functional.masked import masked_l1, masked_l2, masked_psnr, masked_ssim
from mgie_lit.functional.similarity import PSNR_CEILING, l1_distance, l2_distance, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

PAIRS = [(masked_l1, l1_distance), (masked_l2, l2_distance), (masked_psnr, psnr), (masked_ssim, ssim)]
FORMULAS = [masked for masked, _ in PAIRS]


def images(count: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(7)
    preds, target = torch.rand(2, count, 3, 17, 23, generator=generator)
    return preds, target, torch.rand(count, 17, 23, generator=generator) > 0.6


@pytest.mark.parametrize(("masked", "plain"), PAIRS)
def test_a_region_of_everything_is_the_whole_image(masked: Callable[..., Tensor], plain: Callable[..., Tensor]) -> None:
    preds, target, region = images()
    torch.testing.assert_close(masked(preds, target, torch.ones_like(region)), plain(preds, target))


def test_distances_equal_loops() -> None:
    preds, target, region = images()
    for index in range(3):
        chosen = [
            (preds[index, :, row, column] - target[index, :, row, column]).double()
            for row in range(17)
            for column in range(23)
            if region[index, row, column]
        ]
        differences = np.concatenate([one.numpy() for one in chosen])
        square = np.mean(differences**2)
        assert masked_l1(preds, target, region)[index].item() == pytest.approx(np.abs(differences).mean(), abs=1e-6)
        assert masked_l2(preds, target, region)[index].item() == pytest.approx(square, abs=1e-6)
        assert masked_psnr(preds, target, region)[index].item() == pytest.approx(-10 * np.log10(square), abs=1e-4)


def test_ssim_is_the_mean_of_scikit_images_map_inside_the_region() -> None:
    preds, target, region = images(1)
    _, full = structural_similarity(
        preds[0].double().numpy(),
        target[0].double().numpy(),
        channel_axis=0,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        full=True,
    )
    inner = region[0, 5:-5, 5:-5].numpy()
    expected = full[:, 5:-5, 5:-5][:, inner].mean()
    assert masked_ssim(preds, target, region).item() == pytest.approx(expected, abs=1e-5)


def test_inside_and_outside_make_up_the_whole() -> None:
    preds, target, region = images()
    share = region.double().mean((1, 2))
    parts = share * masked_l1(preds, target, region) + (1 - share) * masked_l1(preds, target, ~region)
    torch.testing.assert_close(parts.float(), l1_distance(preds, target))


@pytest.mark.parametrize("formula", FORMULAS)
def test_an_empty_region_has_no_score(formula: Callable[..., Tensor]) -> None:
    preds, target, region = images(2)
    region[1] = False
    assert formula(preds, target, region).isnan().tolist() == [False, True]


def test_equal_regions_are_at_the_ceiling() -> None:
    preds, _, region = images(1)
    other = torch.where(region[:, None], preds, torch.zeros(()))
    assert masked_psnr(preds, other, region).item() == PSNR_CEILING
    assert masked_l2(preds, other, ~region).item() > 0.1


@pytest.mark.parametrize("formula", FORMULAS)
def test_other_sizes_are_refused(formula: Callable[..., Tensor]) -> None:
    preds, target, region = images()
    with pytest.raises(ValueError, match=r"region: expected booleans of shape \(B, H, W\) for images \(3, 3, 17, 23\)"):
        formula(preds, target, region[:, 1:])


def test_images_are_checked() -> None:
    preds, target, region = images()
    with pytest.raises(ValueError, match=r"preds: expected pixels in \[0, 1\]"):
        masked_l1(preds * 255, target, region)
