from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from skimage.metrics import peak_signal_noise_ratio, structural_similarity
from torchmetrics.functional.image import structural_similarity_index_measure

from mgie_lit.functional import similarity
from mgie_lit.functional.similarity import cosine_similarity, l1_distance, l2_distance, psnr, ssim

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

IMAGE_METRICS = [l1_distance, l2_distance, psnr, ssim]


def noisy_pair(*shape: int, scale: float = 0.1) -> tuple[Tensor, Tensor]:
    first = torch.rand(shape)
    return first, (first + scale * torch.randn(shape)).clamp(0.0, 1.0)


def skimage_ssim(preds: Tensor, target: Tensor) -> np.ndarray:
    return np.array(
        [
            structural_similarity(
                one.double().numpy(),
                other.double().numpy(),
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
                data_range=1.0,
                channel_axis=0,
            )
            for one, other in zip(preds, target, strict=True)
        ]
    )


@pytest.mark.parametrize("size", [(11, 11), (11, 40), (64, 64), (37, 150)])
def test_ssim_equals_scikit_image(size: tuple[int, int]) -> None:
    preds, target = noisy_pair(3, 3, *size)
    np.testing.assert_allclose(ssim(preds, target).numpy(), skimage_ssim(preds, target), atol=1e-5, rtol=0)


@pytest.mark.parametrize("level", [0.0, 0.02, 0.5, 0.98, 1.0])
def test_ssim_keeps_its_digits_on_flat_images(level: float) -> None:
    preds, target = ((level + 0.004 * torch.randn(2, 3, 48, 32)).clamp(0, 1) for _ in range(2))
    np.testing.assert_allclose(ssim(preds, target).numpy(), skimage_ssim(preds, target), atol=1e-5, rtol=0)


def test_ssim_equals_torchmetrics_inside_the_border() -> None:
    preds, target = noisy_pair(2, 3, 40, 56)
    _, whole = structural_similarity_index_measure(
        preds, target, data_range=1.0, sigma=1.5, reduction="none", return_full_image=True
    )
    inside = whole[..., 5:-5, 5:-5].mean((1, 2, 3))  # torchmetrics counts windows over its reflected border too
    torch.testing.assert_close(ssim(preds, target), inside, atol=1e-5, rtol=0)


def test_ssim_in_strips_equals_ssim_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    preds, target = noisy_pair(2, 3, 150, 40)
    monkeypatch.setattr(similarity, "_CPU_WORKING_SET", 2**30)
    at_once = ssim(preds, target)
    monkeypatch.setattr(similarity, "_CPU_WORKING_SET", 1)
    torch.testing.assert_close(ssim(preds, target), at_once, atol=1e-6, rtol=0)


def test_ssim_of_opposites_is_negative() -> None:
    image = torch.rand(1, 3, 32, 32)
    assert ssim(image, 1.0 - image).item() < -0.5


def test_ssim_refuses_images_smaller_than_its_window() -> None:
    images = torch.rand(1, 3, 10, 64)
    with pytest.raises(ValueError, match=r"ssim: expected images of at least 11x11 pixels, got 64x10"):
        ssim(images, images)


def test_distances_equal_loops() -> None:
    preds, target = noisy_pair(2, 3, 4, 5)
    for index in range(2):
        differences = [
            a - b for a, b in zip(preds[index].flatten().tolist(), target[index].flatten().tolist(), strict=True)
        ]
        assert l1_distance(preds, target)[index].item() == pytest.approx(sum(map(abs, differences)) / 60, rel=1e-5)
        assert l2_distance(preds, target)[index].item() == pytest.approx(sum(d * d for d in differences) / 60, rel=1e-5)


def test_psnr_equals_scikit_image() -> None:
    preds, target = noisy_pair(3, 3, 16, 12)
    expected = [
        peak_signal_noise_ratio(b.double().numpy(), a.double().numpy(), data_range=1.0)
        for a, b in zip(preds, target, strict=True)
    ]
    np.testing.assert_allclose(psnr(preds, target).numpy(), expected, rtol=1e-5)


def test_psnr_of_equal_images_is_the_ceiling() -> None:
    image = torch.rand(1, 3, 4, 4)
    assert psnr(image, image).item() == pytest.approx(100.0)
    assert psnr(image, image, ceiling=60.0).item() == pytest.approx(60.0)
    assert psnr(torch.zeros(1, 3, 4, 4), torch.ones(1, 3, 4, 4)).item() == 0.0


def test_limits_of_equal_and_opposite_images() -> None:
    black, white = torch.zeros(1, 3, 16, 16), torch.ones(1, 3, 16, 16)
    assert l1_distance(black, white).item() == l2_distance(black, white).item() == 1.0
    assert l1_distance(white, white).item() == l2_distance(white, white).item() == 0.0
    assert ssim(white, white).item() == pytest.approx(1.0)
    assert ssim(black, white).item() == pytest.approx(similarity.SSIM_C1 / (1.0 + similarity.SSIM_C1), rel=1e-3)


@given(seed=st.integers(0, 2**16))
@settings(max_examples=20, deadline=None)
def test_image_metrics_are_symmetric(seed: int) -> None:
    pair = torch.rand(2, 1, 3, 12, 13, generator=torch.Generator().manual_seed(seed))
    for metric in IMAGE_METRICS:
        torch.testing.assert_close(metric(pair[0], pair[1]), metric(pair[1], pair[0]))


@pytest.mark.parametrize("metric", IMAGE_METRICS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_image_metrics_keep_dtype_and_shape(metric: Callable[..., Tensor], dtype: torch.dtype) -> None:
    preds, target = (images.to(dtype) for images in noisy_pair(2, 3, 14, 12))
    scores = metric(preds, target)
    assert scores.shape == (2,)
    assert scores.dtype == dtype
    assert scores.device == preds.device
    torch.testing.assert_close(scores.double(), metric(preds.double(), target.double()), rtol=1e-2, atol=1e-3)


@pytest.mark.gpu
@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_image_metrics_stay_on_the_gpu(metric: Callable[..., Tensor]) -> None:
    preds, target = noisy_pair(2, 3, 40, 30)
    scores = metric(preds.cuda(), target.cuda())
    assert scores.is_cuda
    torch.testing.assert_close(scores.cpu(), metric(preds, target), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", IMAGE_METRICS)
def test_image_metrics_leave_their_inputs_alone(metric: Callable[..., Tensor]) -> None:
    preds, target = noisy_pair(1, 3, 12, 12)
    kept = preds.clone(), target.clone()
    metric(preds, target)
    assert torch.equal(preds, kept[0])
    assert torch.equal(target, kept[1])


@pytest.mark.parametrize("metric", IMAGE_METRICS)
@pytest.mark.parametrize(
    ("preds", "target", "message"),
    [
        (torch.rand(1, 3, 16, 16), torch.rand(1, 3, 16, 12), r"images: expected preds and target of one shape"),
        (torch.rand(3, 16, 16), torch.rand(3, 16, 16), r"images: expected preds and target of one shape"),
        (torch.rand(1, 1, 16, 16), torch.rand(1, 1, 16, 16), r"images: expected preds and target of one shape"),
        (
            torch.ones(1, 3, 16, 16).byte(),
            torch.rand(1, 3, 16, 16),
            r"preds: expected float pixels in \[0, 1\], got torch.uint8",
        ),
        (
            torch.rand(1, 3, 16, 16),
            torch.rand(1, 3, 16, 16) * 2 - 1.5,
            r"target: expected pixels in \[0, 1\], got \[-1",
        ),
        (
            torch.full((1, 3, 16, 16), torch.nan),
            torch.rand(1, 3, 16, 16),
            r"preds: expected pixels in \[0, 1\], got \[nan",
        ),
        (torch.rand(0, 3, 16, 16), torch.rand(0, 3, 16, 16), r"preds: expected at least one image with pixels"),
    ],
)
def test_image_metrics_refuse_what_is_no_image(
    metric: Callable[..., Tensor], preds: Tensor, target: Tensor, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        metric(preds, target)


def test_cosine_similarity_equals_its_formula() -> None:
    preds, target = torch.randn(4, 7), torch.randn(4, 7)
    expected = [float(a @ b / (a @ a).sqrt() / (b @ b).sqrt()) for a, b in zip(preds, target, strict=True)]
    assert cosine_similarity(preds, target).tolist() == pytest.approx(expected, abs=1e-6)
    assert cosine_similarity(preds, 3.0 * preds).tolist() == pytest.approx([1.0] * 4)
    assert cosine_similarity(preds, -preds).tolist() == pytest.approx([-1.0] * 4)
    assert cosine_similarity(preds.half(), target.half()).dtype == torch.float16


def test_cosine_similarity_refuses_other_shapes() -> None:
    with pytest.raises(
        ValueError, match=r"features: expected preds and target of one shape \(B, D\), got \(2, 3\) and \(2, 4\)"
    ):
        cosine_similarity(torch.rand(2, 3), torch.rand(2, 4))
