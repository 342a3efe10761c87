from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mgie_lit.functional.losses import alignment_loss, chunked_instruction_loss, edit_loss, instruction_loss
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


@pytest.mark.parametrize("count", [0, 1, 6, 7, 13])
def test_chunks_give_loss_and_gradients_of_the_whole(count: int) -> None:
    states, weight = torch.randn(count, 5, requires_grad=True), torch.randn(11, 5, requires_grad=True)
    labels = torch.randint(11, (count,)).where(torch.rand(count) < 0.7, IGNORE_INDEX)
    whole_loss = instruction_loss(states @ weight.T, labels)
    chunked_loss = chunked_instruction_loss(states, labels, lambda rows: rows @ weight.T, chunk_size=6)
    sides = ((loss, *torch.autograd.grad(loss, [states, weight])) for loss in (whole_loss, chunked_loss))
    for whole, chunked in zip(*sides, strict=True):
        torch.testing.assert_close(chunked, whole, rtol=1e-6, atol=1e-7)


def test_chunks_are_scored_one_at_a_time_and_not_kept() -> None:
    scored: list[int] = []

    def head(rows: torch.Tensor) -> torch.Tensor:
        scored.append(len(rows))
        return rows @ torch.ones(5, 1000)

    kept: list[int] = []
    states, labels = torch.randn(13, 5, requires_grad=True), torch.zeros(13, dtype=torch.int64)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (kept.append(t.numel()), t)[1], lambda t: t):
        loss = chunked_instruction_loss(states, labels, head, chunk_size=6)
    loss.backward()
    assert scored == [6, 6, 1, 1, 6, 6]  # forward, then again in the backward
    assert max(kept) < 1000


@pytest.mark.parametrize("chunk_size", [3, 100])
def test_chunks_know_of_the_other_batches_and_of_the_released_division(chunk_size: int) -> None:
    states, labels, weight = torch.randn(5, 4), torch.full((5,), IGNORE_INDEX), torch.randn(4, 7)
    head = lambda rows: rows @ weight  # noqa: E731
    given = chunked_instruction_loss(states, labels, head, chunk_size=chunk_size, nan_without_labels=True)
    assert given.isnan()
    few = torch.tensor(2.5)
    chunked = chunked_instruction_loss(states, torch.ones(5).long(), head, chunk_size=chunk_size, num_labels=few)
    assert chunked.item() == pytest.approx(
        instruction_loss(states @ weight, torch.ones(5).long(), num_labels=few).item()
    )


def test_alignment_loss_compares_every_query_with_the_code() -> None:
    preds, target = torch.randn(2, 3, 5), torch.randn(2, 5)
    expected = np.mean([(preds[:, query] - target).numpy() ** 2 for query in range(3)])
    assert alignment_loss(preds, target).item() == pytest.approx(expected, rel=1e-6)
    assert alignment_loss(target[:, None].expand(2, 3, 5), target).item() == 0.0
