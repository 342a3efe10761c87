from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mgie_lit.functional.losses import alignment_loss, edit_loss, instruction_loss
from mgie_lit.vocabulary import IGNORE_INDEX


def slow_cross_entropy(logits: np.ndarray, labels: list[int]) -> float:
    """Mean over the labelled rows of minus the log-probability of the label, in float64."""
    total, count = 0.0, 0
    for row, label in zip(logits.astype(np.float64), labels, strict=True):
        if label != IGNORE_INDEX:
            total += math.log(sum(math.exp(value) for value in row)) - row[label]
            count += 1
    return total / count


def test_edit_loss_is_the_mean_square() -> None:
    preds, target = torch.randn(2, 2, 4, 3, 5)
    expected = np.mean((preds.numpy().astype(np.float64) - target.numpy()) ** 2)
    assert edit_loss(preds, target).item() == pytest.approx(expected, rel=1e-6)
    assert edit_loss(target, target).item() == 0.0


def test_edit_loss_of_the_mean_is_one_in_units_of_the_variance() -> None:
    target = 0.3 * torch.randn(2, 4, 50, 50)
    assert edit_loss(torch.zeros_like(target), target, target_variance=0.09).item() == pytest.approx(1.0, rel=0.02)


def test_edit_loss_is_float32_for_half_precision() -> None:
    preds = torch.full((1, 1, 1, 1), 300.0, dtype=torch.float16)  # its square is more than float16 holds
    loss = edit_loss(preds, torch.zeros_like(preds))
    assert (loss.dtype, loss.item()) == (torch.float32, 90_000.0)


def test_instruction_loss_is_the_mean_over_labelled_tokens() -> None:
    logits = torch.randn(6, 11)
    labels = [IGNORE_INDEX, 3, 10, IGNORE_INDEX, 0, 3]
    loss = instruction_loss(logits, torch.tensor(labels))
    assert loss.item() == pytest.approx(slow_cross_entropy(logits.numpy(), labels), rel=1e-6)


def test_instruction_loss_of_a_uniform_guess() -> None:
    assert instruction_loss(torch.zeros(4, 11), torch.arange(4)).item() == pytest.approx(math.log(11))


def test_instruction_loss_does_not_see_ignored_rows() -> None:
    logits = torch.randn(4, 11, requires_grad=True)
    instruction_loss(logits, torch.tensor([IGNORE_INDEX, 2, 2, IGNORE_INDEX])).backward()
    assert logits.grad is not None
    assert logits.grad[[0, 3]].abs().max() == 0
    assert logits.grad[[1, 2]].abs().min() > 0


def test_instruction_loss_without_labels_is_zero_with_a_graph() -> None:
    logits = torch.randn(4, 11, requires_grad=True)
    loss = instruction_loss(logits, torch.full((4,), IGNORE_INDEX))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert torch.equal(logits.grad, torch.zeros(4, 11))


def test_alignment_loss_compares_every_query_with_the_code() -> None:
    preds, target = torch.randn(2, 3, 5), torch.randn(2, 5)
    expected = np.mean([(preds[:, query] - target).numpy() ** 2 for query in range(3)])
    assert alignment_loss(preds, target).item() == pytest.approx(expected, rel=1e-6)
    assert alignment_loss(target[:, None].expand(2, 3, 5), target).item() == 0.0
