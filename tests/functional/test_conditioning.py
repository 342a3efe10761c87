from __future__ import annotations

import pytest
import torch

from mgie_lit.functional.conditioning import condition_dropout_masks

FIVE_PERCENT = {"text_prob": 0.05, "both_prob": 0.05, "image_prob": 0.05}

# draw, drops the text, drops the image: intervals closed on the left, as measured on the released code
BOUNDARIES = [
    (0.0, True, False),
    (0.0499, True, False),
    (0.05, True, True),
    (0.07, True, True),
    (0.0999, True, True),
    (0.10, False, True),
    (0.12, False, True),
    (0.1499, False, True),
    (0.15, False, False),
    (0.5, False, False),
    (0.9999, False, False),
]


@pytest.mark.parametrize(("draw", "drop_text", "drop_image"), BOUNDARIES)
def test_boundaries(draw: float, drop_text: bool, drop_image: bool) -> None:
    masks = condition_dropout_masks(torch.tensor([draw]), **FIVE_PERCENT)
    assert tuple(mask.item() for mask in masks) == (drop_text, drop_image)


@pytest.mark.parametrize("boundary", [0.05, 0.10, 0.15])
def test_the_float_before_a_boundary_is_on_the_other_side(boundary: float) -> None:
    at = torch.tensor([boundary])
    before = torch.nextafter(at, torch.zeros(1))
    masks_at, masks_before = (condition_dropout_masks(draw, **FIVE_PERCENT) for draw in (at, before))
    assert [mask.item() for mask in masks_at] != [mask.item() for mask in masks_before]


def test_samples_of_a_batch_are_decided_one_by_one() -> None:
    draws = torch.tensor([draw for draw, _, _ in BOUNDARIES])
    drop_text, drop_image = condition_dropout_masks(draws, **FIVE_PERCENT)
    assert drop_text.tolist() == [text for _, text, _ in BOUNDARIES]
    assert drop_image.tolist() == [image for _, _, image in BOUNDARIES]


def test_shares_are_the_probabilities() -> None:
    drop_text, drop_image = condition_dropout_masks(torch.rand(100_000), text_prob=0.1, both_prob=0.2, image_prob=0.3)
    shares = [(drop_text & ~drop_image), (drop_text & drop_image), (~drop_text & drop_image)]
    assert [mask.float().mean().item() for mask in shares] == pytest.approx([0.1, 0.2, 0.3], abs=0.01)


def test_limits_are_never_and_always() -> None:
    draws = torch.rand(50)
    never = condition_dropout_masks(draws, text_prob=0.0, both_prob=0.0, image_prob=0.0)
    assert not torch.stack(never).any()
    always = condition_dropout_masks(draws, text_prob=0.0, both_prob=1.0, image_prob=0.0)
    assert torch.stack(always).all()


@pytest.mark.parametrize("probs", [(-0.1, 0.0, 0.0), (0.5, 0.5, 0.1)])
def test_probabilities_are_checked(probs: tuple[float, float, float]) -> None:
    text, both, image = probs
    message = rf"probabilities >= 0 with sum <= 1, got text={text}, both={both}, image={image}"
    with pytest.raises(ValueError, match=message):
        condition_dropout_masks(torch.rand(3), text_prob=text, both_prob=both, image_prob=image)
