from __future__ import annotations

import pytest
import torch
import torchmetrics
from torchmetrics.image import PeakSignalNoiseRatio

from mgie_lit.metrics.base import SampleMetric
from mgie_lit.metrics.pixel import L1, L2, PSNR, SSIM


@pytest.mark.parametrize(
    ("metric", "other"),
    [
        (L1(), torchmetrics.MeanAbsoluteError()),
        (L2(), torchmetrics.MeanSquaredError()),
        (PSNR(), PeakSignalNoiseRatio(data_range=1.0, dim=(1, 2, 3))),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_equals_torchmetrics(metric: SampleMetric, other: torchmetrics.Metric) -> None:
    for count in (2, 3):
        preds, target = torch.rand(count, 3, 16, 20), torch.rand(count, 3, 16, 20)
        metric.update(preds, target)
        other.update(preds, target)
    assert metric.compute().item() == pytest.approx(other.compute().item(), abs=1e-5)


@pytest.mark.parametrize(("kind", "better"), [(L1, False), (L2, False), (PSNR, True), (SSIM, True)])
def test_direction(kind: type[SampleMetric], better: bool) -> None:
    target = torch.rand(1, 3, 16, 16)
    near, far = ((target + scale * torch.randn_like(target)).clamp(0, 1) for scale in (0.01, 0.3))
    assert (kind().score(near, target) > kind().score(far, target)).item() is better
    assert kind().higher_is_better is better


def test_ssim_does_not_apply_to_tiny_images() -> None:
    tiny = torch.rand(2, 3, 10, 30)
    assert SSIM().score(tiny, tiny).isnan().tolist() == [True, True]
    assert not SSIM().score(torch.rand(1, 3, 11, 11), torch.rand(1, 3, 11, 11)).isnan().any()
