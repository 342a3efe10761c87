"""Random numbers by address."""

from __future__ import annotations

import itertools

from mgie_lit.data.photo_edits.draws import SPLITS, example_rng


def test_same_address_same_numbers() -> None:
    assert example_rng(3, "val", 7).random(4).tolist() == example_rng(3, "val", 7).random(4).tolist()


def test_every_address_has_its_own_numbers() -> None:
    addresses = list(itertools.product((0, 1, 2**63 - 1), SPLITS, (0, 1, 2, 1000, 2**40)))
    draws = {example_rng(*address).random() for address in addresses}
    assert len(draws) == len(addresses)


def test_numbers_are_uniform_over_indices() -> None:
    draws = [float(example_rng(0, "train", index).random()) for index in range(4000)]
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02
    assert abs(sum(draw < 0.1 for draw in draws) / len(draws) - 0.1) < 0.02
