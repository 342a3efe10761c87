from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mgie_lit.functional.guidance import combine_guidance

SCALES = st.floats(0, 20)


def slow_guidance(preds: np.ndarray, text_scale: float, image_scale: float) -> np.ndarray:
    """Equation 3 of arXiv:2211.09800, value by value."""
    result = np.empty_like(preds[0])
    for index in np.ndindex(result.shape):
        null, image, text = (float(branch[index]) for branch in preds)
        result[index] = null + image_scale * (image - null) + text_scale * (text - image)
    return result


@given(text_scale=SCALES, image_scale=SCALES)
def test_equals_the_equation(text_scale: float, image_scale: float) -> None:
    preds = torch.randn(3, 2, 4, 3, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    mixed = combine_guidance(preds, guidance_scale=text_scale, image_guidance_scale=image_scale)
    np.testing.assert_allclose(mixed.numpy(), slow_guidance(preds.numpy(), text_scale, image_scale), atol=1e-12)


@pytest.mark.parametrize(("guidance_scale", "image_guidance_scale", "branch"), [(0.0, 0.0, 0), (0.0, 1.0, 1)])
def test_limits_are_single_branches(guidance_scale: float, image_guidance_scale: float, branch: int) -> None:
    preds = torch.randn(3, 2, 4, 3, 5)
    mixed = combine_guidance(preds, guidance_scale=guidance_scale, image_guidance_scale=image_guidance_scale)
    assert torch.allclose(mixed, preds[branch], atol=1e-6)


def test_scales_of_one_give_the_conditional_prediction_to_the_last_bit() -> None:
    preds = torch.randn(3, 2, 4, 3, 5)
    assert torch.equal(combine_guidance(preds, guidance_scale=1.0, image_guidance_scale=1.0), preds[2])


@given(text_scale=SCALES, image_scale=SCALES)
def test_weights_add_up_to_one(text_scale: float, image_scale: float) -> None:
    """So branches that agree are left alone, and the mix holds for any linear change of what is predicted."""
    preds = torch.full((3, 1, 2, 1, 1), 0.7, dtype=torch.float64)
    mixed = combine_guidance(preds, guidance_scale=text_scale, image_guidance_scale=image_scale)
    assert torch.allclose(mixed, preds[0])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_dtype_is_kept(dtype: torch.dtype) -> None:
    preds = torch.randn(3, 2, 4, 3, 5).to(dtype)
    assert combine_guidance(preds, guidance_scale=7.5, image_guidance_scale=1.5).dtype == dtype


def test_three_branches_are_needed() -> None:
    with pytest.raises(ValueError, match=r"expected 3 predictions \[null, image, image\+text\], got \(2, 1, 4, 3, 5\)"):
        combine_guidance(torch.zeros(2, 1, 4, 3, 5), guidance_scale=7.5, image_guidance_scale=1.5)
