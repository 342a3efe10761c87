from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mgie_lit.data.order import BlockShuffledOrder, BucketedOrder, ShuffledOrder, batches_of, order_of


def whole(order: ShuffledOrder, epoch: int) -> list[int]:
    order.set_epoch(epoch)
    return list(order)


def ranks(num_examples: int, world_size: int, *, seed: int = 0, epoch: int = 0) -> list[list[int]]:
    orders = [ShuffledOrder(num_examples, seed=seed, rank=rank, world_size=world_size) for rank in range(world_size)]
    return [whole(order, epoch) for order in orders]


def test_an_epoch_is_a_permutation_that_changes() -> None:
    order = ShuffledOrder(50, seed=0)
    epochs = [whole(order, epoch) for epoch in range(3)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert all(first != second for first, second in itertools.combinations([*epochs, list(range(50))], 2))


def test_it_depends_on_seed_and_epoch_alone() -> None:
    assert whole(ShuffledOrder(50, seed=3), 2) == whole(ShuffledOrder(50, seed=3), 2)
    assert whole(ShuffledOrder(50, seed=3), 2) != whole(ShuffledOrder(50, seed=4), 2)
    assert whole(ShuffledOrder(50, seed=3), 2) != whole(ShuffledOrder(50, seed=2), 3)


@given(num_examples=st.integers(1, 60), world_size=st.integers(1, 5), epoch=st.integers(0, 3))
def test_ranks_do_not_overlap_and_have_equal_shares(num_examples: int, world_size: int, epoch: int) -> None:
    shares = ranks(num_examples, world_size, epoch=epoch)
    assert {len(share) for share in shares} == {num_examples // world_size}
    dealt = [index for share in shares for index in share]
    assert len(set(dealt)) == len(dealt) == num_examples // world_size * world_size


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_ranks_together_go_through_the_order_of_one_process(world_size: int) -> None:
    """Batch by batch the same examples, whatever the number of processes."""
    together = [index for turn in zip(*ranks(48, world_size, seed=7), strict=True) for index in turn]
    assert together == ranks(48, 1, seed=7)[0]


@given(
    num_examples=st.integers(1, 60),
    world_size=st.integers(1, 4),
    epoch=st.integers(0, 2),
    share=st.floats(0, 1),
)
def test_a_resumed_epoch_has_what_was_left_of_it(num_examples: int, world_size: int, epoch: int, share: float) -> None:
    done = int(share * (num_examples // world_size))  # examples of every rank
    for rank, full in enumerate(ranks(num_examples, world_size, epoch=epoch)):
        order = ShuffledOrder(num_examples, seed=0, rank=rank, world_size=world_size)
        order.resume_at(epoch, done * world_size)
        assert list(order) == full[done:]
        assert len(order) == len(full)
        assert whole(order, epoch) == full[done:], "the trainer names the epoch once more when it begins"


def test_the_epoch_after_a_resumed_one_is_whole() -> None:
    order = ShuffledOrder(10, seed=0)
    order.resume_at(1, 4)
    assert len(whole(order, 1)) == 6
    assert whole(order, 2) == whole(ShuffledOrder(10, seed=0), 2)
    assert len(list(order)) == 10


def blocks(
    num_examples: int, rank: int = 0, world_size: int = 1, *, block_size: int = 4, window: int = 3, seed: int = 0
) -> BlockShuffledOrder:
    starts = np.arange(0, num_examples, block_size)
    return BlockShuffledOrder(num_examples, starts=starts, window=window, seed=seed, rank=rank, world_size=world_size)


@given(num_examples=st.integers(1, 60), block_size=st.integers(1, 9), window=st.integers(1, 5), epoch=st.integers(0, 2))
def test_blocks_give_every_example_once(num_examples: int, block_size: int, window: int, epoch: int) -> None:
    order = blocks(num_examples, block_size=block_size, window=window)
    assert sorted(whole(order, epoch)) == list(range(num_examples))


def test_a_window_holds_whole_blocks_in_a_drawn_order() -> None:
    order = whole(blocks(48), 0)
    windows = [order[first : first + 12] for first in range(0, 48, 12)]
    for window in windows:
        assert sorted(window) == sorted(4 * block + item for block in {i // 4 for i in window} for item in range(4))
        assert window != sorted(window)
    assert whole(blocks(48), 1) != order != whole(blocks(48, seed=1), 0)
    assert whole(blocks(48), 0) == order


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_windows_and_resume_in_them(world_size: int) -> None:
    shares = [whole(blocks(50, rank, world_size), 2) for rank in range(world_size)]
    dealt = 50 // world_size * world_size
    assert [index for turn in zip(*shares, strict=True) for index in turn] == whole(blocks(50), 2)[:dealt]
    for rank, share in enumerate(shares):
        order = blocks(50, rank, world_size)
        order.resume_at(2, 7 * world_size)
        assert list(order) == share[7:]


def test_readers_choose() -> None:
    class InBlocks:
        blocks: tuple[np.ndarray, int] | None = (np.arange(0, 48, 4), 3)

    reader = InBlocks()
    assert list(order_of(reader, 48, seed=0)) == list(blocks(48))
    reader.blocks = None
    assert list(order_of(reader, 48, seed=0)) == list(order_of([], 48, seed=0)) == list(ShuffledOrder(48, seed=0))


def bucketed(buckets: list[int], batch_size: int, rank: int = 0, world_size: int = 1, **kwargs: int) -> BucketedOrder:
    order = ShuffledOrder(len(buckets), **{"seed": 0} | kwargs, rank=rank, world_size=world_size)
    return BucketedOrder(order, np.array(buckets), batch_size)


BUCKETS = st.lists(st.integers(0, 3), min_size=1, max_size=60)


@given(buckets=BUCKETS, batch_size=st.integers(1, 5), epoch=st.integers(0, 2))
def test_batches_are_of_one_bucket_and_leave_out_less_than_one_of_each(
    buckets: list[int], batch_size: int, epoch: int
) -> None:
    order = bucketed(buckets, batch_size)
    indices = whole(order, epoch)
    assert len(order) == len(indices) == len(set(indices))
    for first in range(0, len(indices), batch_size):
        assert len({buckets[index] for index in indices[first : first + batch_size]}) == 1
    left = [buckets.count(bucket) - sum(buckets[index] == bucket for index in indices) for bucket in set(buckets)]
    assert all(0 <= count < batch_size for count in left)


@given(buckets=BUCKETS, batch_size=st.integers(1, 4), world_size=st.integers(1, 3), share=st.floats(0, 1))
def test_ranks_take_whole_batches_in_turn_and_resume_between_them(
    buckets: list[int], batch_size: int, world_size: int, share: float
) -> None:
    shares = [whole(bucketed(buckets, batch_size, rank, world_size), 1) for rank in range(world_size)]
    together = np.array(shares).reshape(world_size, -1, batch_size).swapaxes(0, 1).ravel().tolist()
    alone = whole(bucketed(buckets, batch_size), 1)
    assert together == alone[: len(together)]
    assert len(alone) - len(together) < batch_size * world_size
    assert {len(share) for share in shares} == {len(bucketed(buckets, batch_size, 0, world_size))}
    done = int(share * (len(shares[0]) // batch_size)) * batch_size
    for rank, full in enumerate(shares):
        order = bucketed(buckets, batch_size, rank, world_size)
        order.resume_at(1, done * world_size)
        assert list(order) == full[done:]


def test_bucketed_epochs_differ_and_leave_out_others() -> None:
    buckets = [0] * 10 + [1] * 11
    left = {frozenset(range(21)) - frozenset(whole(bucketed(buckets, 4), epoch)) for epoch in range(6)}
    assert {len(names) for names in left} == {5}
    assert len(left) > 3
    assert whole(bucketed(buckets, 4), 0) != whole(bucketed(buckets, 4), 1) != whole(bucketed(buckets, 4, seed=1), 1)


def test_bucketed_blocks_stay_together() -> None:
    """Batches of both buckets come out of one window of the data before the next one begins."""
    buckets = np.arange(48) % 2
    order = BucketedOrder(blocks(48), buckets, 3)
    indices = whole(order, 0)
    windows = [sorted({index // 4 for index in whole(blocks(48), 0)[first : first + 12]}) for first in range(0, 48, 12)]
    assert [sorted({index // 4 for index in indices[first : first + 12]}) for first in range(0, 48, 12)] == windows


def test_incomplete_batches_are_kept_on_request() -> None:
    batches = batches_of(np.array([0, 1, 1, 0, 0]), 2, keep_incomplete=True)
    assert [batch.tolist() for batch in batches] == [[1, 2], [0, 3], [4]]
    assert sorted(np.concatenate(batches).tolist()) == list(range(5))
    assert len(batches_of(np.array([0, 1, 1, 0, 0]), 2, keep_incomplete=False)) == 2


LENGTHS = np.random.default_rng(0).integers(1, 400, 96)


def by_length(
    rank: int = 0, world_size: int = 1, *, buckets: np.ndarray | None = None, together: int = 4, **kwargs: int
) -> BucketedOrder:
    """Batches of three."""
    order = ShuffledOrder(96, **{"seed": 0} | kwargs, rank=rank, world_size=world_size)
    shapes = np.zeros(96, np.int64) if buckets is None else buckets
    return BucketedOrder(order, shapes, 3, lengths=LENGTHS, length_buckets=together)


def test_batches_filled_together_are_of_other_lengths() -> None:
    """Each twelve examples of the plain order are cut into four batches by their lengths."""
    batches = np.array(whole(by_length(), 1)).reshape(-1, 4, 3)
    plain = np.array(whole(ShuffledOrder(96, seed=0), 1)).reshape(-1, 12)
    for group, stretch in zip(batches, plain, strict=True):
        assert sorted(group.ravel()) == sorted(stretch)
        by_least = sorted((sorted(LENGTHS[batch]) for batch in group), key=lambda lengths: lengths[0])
        assert [length for lengths in by_least for length in lengths] == sorted(LENGTHS[stretch])
    medians = np.median(LENGTHS[batches], axis=2)
    assert not all((np.diff(row) >= 0).all() for row in medians), "short batches do not come first"
    assert whole(by_length(), 0) != whole(by_length(), 1) != whole(by_length(seed=1), 1)


@pytest.mark.parametrize("shapes", [None, np.arange(96) % 5 // 2])
def test_lengths_leave_out_no_other_examples_and_pad_less(shapes: np.ndarray | None) -> None:
    order = by_length(buckets=shapes)
    plain = BucketedOrder(ShuffledOrder(96, seed=0), order.buckets, 3)
    for epoch in range(3):
        indices, unsorted = whole(order, epoch), whole(plain, epoch)
        assert sorted(indices) == sorted(unsorted)
        assert len(order) == len(plain) == len(indices)
        batches = np.array(indices).reshape(-1, 3)
        assert (order.buckets[batches] == order.buckets[batches[:, :1]]).all(), "batches are of one shape, too"
        assert padded(batches) < 0.6 * padded(np.array(unsorted).reshape(-1, 3))


def padded(batches: np.ndarray) -> int:
    return int((LENGTHS[batches].max(1, keepdims=True) - LENGTHS[batches]).sum())


@given(world_size=st.integers(1, 4), together=st.integers(2, 40), share=st.floats(0, 1))
def test_ranks_share_batches_of_a_length_and_resume_between_them(world_size: int, together: int, share: float) -> None:
    shares = [whole(by_length(rank, world_size, together=together), 1) for rank in range(world_size)]
    dealt = np.array(shares).reshape(world_size, -1, 3).swapaxes(0, 1).ravel().tolist()
    assert dealt == whole(by_length(together=together), 1)[: len(dealt)]
    assert 96 - len(dealt) < 3 * world_size
    done = int(share * (len(shares[0]) // 3)) * 3
    for rank, full in enumerate(shares):
        order = by_length(rank, world_size, together=together)
        order.resume_at(1, done * world_size)
        assert list(order) == full[done:]
        assert whole(order, 2) == whole(by_length(rank, world_size, together=together), 2)


@given(
    num_examples=st.integers(1, 80), epoch=st.integers(0, 2), shares=st.permutations([(1, 4, 3), (3, 4, 1), (2, 2, 3)])
)
def test_steps_do_not_depend_on_how_they_are_shared(
    num_examples: int, epoch: int, shares: list[tuple[int, int, int]]
) -> None:
    """12 examples a step: processes, examples of a batch, batches of a step."""

    def steps(world_size: int, batch_size: int, accumulation: int) -> list[set[int]]:
        size = world_size * batch_size * accumulation
        dealt = [
            whole(ShuffledOrder(num_examples, seed=1, rank=rank, world_size=world_size, step_size=size), epoch)
            for rank in range(world_size)
        ]
        share = batch_size * accumulation
        count = len(dealt[0]) // share
        return [{index for own in dealt for index in own[step * share : (step + 1) * share]} for step in range(count)]

    first, *others = [steps(*share) for share in shares]
    assert len(first) == num_examples // 12
    assert all(len(step) == 12 for step in first)
    assert all(other == first for other in others)


def test_a_set_smaller_than_a_step_is_dealt_out_whole() -> None:
    assert len(ShuffledOrder(7, seed=0, step_size=8)) == 7
    assert len(ShuffledOrder(17, seed=0, step_size=8)) == 16
