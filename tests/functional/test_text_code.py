from __future__ import annotations

import pytest
import torch

from mgie_lit.functional.text_code import bag_of_tokens_code, random_token_codes


def test_codes_depend_on_the_seed_alone() -> None:
    codes = random_token_codes(7, 5, seed=3)
    torch.manual_seed(99)
    assert torch.equal(random_token_codes(7, 5, seed=3), codes)
    assert not torch.equal(random_token_codes(7, 5, seed=4), codes)
    assert codes.shape == (7, 5)


def test_code_of_a_text_is_the_scaled_sum_of_its_tokens() -> None:
    codes = random_token_codes(7, 5, seed=0)
    token_ids = torch.tensor([[4, 2, 2, 6], [1, 0, 0, 0]])
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    code = bag_of_tokens_code(token_ids, mask, codes)
    assert torch.allclose(code[0], (codes[4] + 2 * codes[2]) / 3**0.5)
    assert torch.equal(code[1], codes[1])


def test_masked_ids_may_be_anything() -> None:
    codes = random_token_codes(7, 5, seed=0)
    mask = torch.tensor([[True, False]])
    far_outside = bag_of_tokens_code(torch.tensor([[4, 10_000]]), mask, codes)
    assert torch.equal(far_outside, bag_of_tokens_code(torch.tensor([[4, 0]]), mask, codes))


def test_empty_text_is_zero() -> None:
    code = bag_of_tokens_code(
        torch.tensor([[3, 4]]), torch.zeros(1, 2, dtype=torch.bool), random_token_codes(7, 5, seed=0)
    )
    assert torch.equal(code, torch.zeros(1, 5))


def test_codes_are_about_standard_normal_and_shared_words_bring_texts_together() -> None:
    codes = random_token_codes(500, 400, seed=0)
    mask = torch.ones(1, 10, dtype=torch.bool)
    texts = [torch.arange(start, start + 10)[None] for start in (0, 5, 100)]
    base, near, far = (bag_of_tokens_code(ids, mask, codes)[0] for ids in texts)
    assert base.std().item() == pytest.approx(1.0, abs=0.1)
    assert torch.cosine_similarity(base, near, 0) > 0.3 > torch.cosine_similarity(base, far, 0).abs()
