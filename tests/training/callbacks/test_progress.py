from __future__ import annotations

from types import SimpleNamespace

import pytest

from mgie_lit.training.callbacks.progress import StepProgress


@pytest.mark.parametrize(
    ("max_steps", "global_step", "accumulate", "expected"),
    [(10, 0, 1, 10), (10, 0, 2, 20), (10, 4, 2, 12), (1000, 0, 1, 50), (-1, 0, 1, 50)],
)
def test_bar_counts_the_batches_that_are_left(max_steps: int, global_step: int, accumulate: int, expected: int) -> None:
    bar = StepProgress()
    bar._trainer = SimpleNamespace(
        max_steps=max_steps, global_step=global_step, accumulate_grad_batches=accumulate, num_training_batches=50
    )
    assert bar.total_train_batches == expected
