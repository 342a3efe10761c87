from __future__ import annotations

import numpy as np
import pytest
import torch

from mgie_lit.functional.perceptual import lpips_distance, scale_pixels


def test_equals_its_formula_in_numpy() -> None:
    generator = torch.Generator().manual_seed(2)
    shapes = [(2, 5, 3, 4), (2, 7, 1, 2)]
    preds, target = ([torch.randn(shape, generator=generator) for shape in shapes] for _ in range(2))
    heads = [torch.rand(shape[1], generator=generator) for shape in shapes]
    expected = np.zeros(2)
    for one, other, head in zip(preds, target, heads, strict=True):
        x, y = one.double().numpy(), other.double().numpy()
        x, y = (values / np.sqrt((values**2).sum(1, keepdims=True) + 1e-8) for values in (x, y))
        expected += np.einsum("bchw,c->bhw", (x - y) ** 2, head.double().numpy()).mean((1, 2))
    assert lpips_distance(preds, target, heads).tolist() == pytest.approx(expected.tolist(), abs=1e-6)


def test_equal_features_have_no_distance() -> None:
    features = [torch.zeros(1, 3, 2, 2), torch.randn(1, 4, 1, 1)]
    assert lpips_distance(features, features, [torch.ones(3), torch.ones(4)]).tolist() == [0.0]


@pytest.mark.parametrize("heads", [[], [torch.ones(4)], [torch.ones(3), torch.ones(3)]])
def test_layers_have_to_agree(heads: list[torch.Tensor]) -> None:
    with pytest.raises(ValueError, match=r"lpips: expected features of one shape and a head .* a layer, got preds"):
        lpips_distance([torch.rand(1, 3, 2, 2)], [torch.rand(1, 3, 2, 2)], heads)


def test_pixels_are_shifted_by_colour() -> None:
    scaled = scale_pixels(torch.tensor([0.0, 1.0]).view(1, 1, 1, 2).expand(1, 3, 1, 2))
    assert scaled[0, 0, 0].tolist() == pytest.approx([-0.97 / 0.458, 1.03 / 0.458])
