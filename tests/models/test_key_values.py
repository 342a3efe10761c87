from __future__ import annotations

import torch
from torch import Tensor

from mgie_lit.models.key_values import KeyValueCache


def filled(batch: int, *, capacity: int = 9, seed: int = 0) -> tuple[KeyValueCache, list[tuple[Tensor, Tensor]]]:
    """Two layers with heads of another width for the values, filled in steps of 3, 1 and 2 tokens."""
    generator = torch.Generator().manual_seed(seed)
    cache, given = KeyValueCache(2, capacity), []
    for size in (3, 1, 2):
        step = [
            (torch.randn(batch, 4, size, 5, generator=generator), torch.randn(batch, 4, size, 7, generator=generator))
            for _ in range(2)
        ]
        for layer, (keys, values) in enumerate(step):
            cache.update(keys, values, layer)
        given.append(step)
    whole = [tuple(torch.cat([step[layer][kind] for step in given], dim=2) for kind in (0, 1)) for layer in range(2)]
    return cache, whole  # type: ignore[return-value]


def contents(cache: KeyValueCache) -> list[tuple[Tensor, Tensor]]:
    """What attention would get if no token came."""
    nothing = [(keys[:, :, :0], values[:, :, :0]) for keys, values in (cache._stored(layer) for layer in range(2))]
    return [cache.update(keys, values, layer) for layer, (keys, values) in enumerate(nothing)]


def test_it_gives_what_it_was_given() -> None:
    cache, whole = filled(2)
    for found, expected in zip(contents(cache), whole, strict=True):
        assert torch.equal(found[0], expected[0])
        assert torch.equal(found[1], expected[1])


def test_buffers_do_not_grow() -> None:
    cache = KeyValueCache(1, 6)
    places = set()
    for _ in range(6):
        keys, values = cache.update(torch.ones(1, 2, 1, 3), torch.ones(1, 2, 1, 3), 0)
        places.add((keys.data_ptr(), values.data_ptr()))
    assert len(places) == 1


def test_a_shorter_length_forgets_the_end() -> None:
    cache, whole = filled(1)
    cache.crop(4)
    new = torch.full((1, 4, 1, 5), 8.0), torch.full((1, 4, 1, 7), 9.0)
    keys, values = cache.update(*new, 1)
    assert torch.equal(keys, torch.cat([whole[1][0][:, :, :4], new[0]], dim=2))
    assert torch.equal(values, torch.cat([whole[1][1][:, :, :4], new[1]], dim=2))


def test_rows_of_others_are_copied() -> None:
    first, second = filled(2, seed=1), filled(1, seed=2)
    stacked = KeyValueCache.stack([second[0], first[0].row(1), second[0]], length=5, capacity=20)
    assert stacked.length == 5
    for layer, (keys, values) in enumerate(contents(stacked)):
        for row, source in enumerate((second[1][layer][0][0], first[1][layer][0][1], second[1][layer][0][0])):
            assert torch.equal(keys[row], source[:, :5])
        assert torch.equal(values[1], first[1][layer][1][1][:, :5])
    for keys, values in contents(stacked):
        keys.zero_()
        values.zero_()
    assert torch.equal(contents(second[0])[0][0], second[1][0][0]), "the copy shared its buffers"
