from __future__ import annotations

import torch

from mgie_lit.testing.random_data import RESOLUTION, RandomDataset, random_batch, random_draws, random_example
from mgie_lit.testing.tiny_models import tiny_editor


def test_random_examples_are_the_same_at_every_call_and_differ() -> None:
    first, again, other = random_example(3), random_example(3), random_example(4)
    assert (first.source, first.target, first.instruction) == (again.source, again.target, again.instruction)
    assert first.source != first.target
    assert first.source != other.source
    assert first.instruction != other.instruction


def test_batch_and_draws_fit_each_other() -> None:
    editor = tiny_editor("patch")
    batch = random_batch(editor)
    draws = random_draws(editor, batch)
    assert batch.source.shape == (3, 3, RESOLUTION, RESOLUTION)
    assert draws.noise.shape == draws.latent_noise.shape == (3, 12, RESOLUTION // 2, RESOLUTION // 2)
    assert torch.equal(random_draws(editor, batch).timesteps, draws.timesteps)
    assert draws.condition_dropout.tolist() == [1.0] * 3


def test_data_set_has_ids_by_split() -> None:
    dataset = RandomDataset("val", 3)
    assert [dataset[index].sample_id for index in range(len(dataset))] == ["val-0", "val-1", "val-2"]
    assert dataset.sample_id(2) == "val-2"
