"""Order of the examples: a function of seed, epoch and position, the same whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol, runtime_checkable

import numpy as np
from torch.utils.data import Sampler

_OWN_ORDER = 4096  # keeps the draw of a process apart from those of the epochs


class ShuffledOrder(Sampler[int]):
    """A new permutation every epoch, dealt out to the ranks in turn; a run can go on in the middle of an epoch.

    Args:
        num_examples: Size of the data set.
        seed: Of the run.
        rank: This process.
        world_size: All processes; none gets an example that another has.
        step_size: Examples of an optimizer step over all processes. An epoch is whole steps, whatever number of batches
            and processes share them; what is left over waits for the next permutation. A data set that is smaller than
            a step is dealt out whole.
        overlapping: Deal out a permutation that every process has drawn for itself, as ml-mgie: some examples come
            several times in an epoch, others not at all.
    """

    def __init__(
        self,
        num_examples: int,
        *,
        seed: int,
        rank: int = 0,
        world_size: int = 1,
        step_size: int = 1,
        overlapping: bool = False,
    ) -> None:
        self.num_examples = num_examples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.step_size = step_size
        self.overlapping = overlapping
        self.dealt_together = 1  # examples in a row that one rank gets
        self.epoch = 0
        self._resume = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; the trainer calls it when an epoch begins."""
        self.epoch = epoch

    def resume_at(self, epoch: int, position: int) -> None:
        """Begin ``epoch`` after its first ``position`` examples (counted over all ranks)."""
        self.epoch = epoch
        self._resume = (epoch, position)

    def permutation(self) -> np.ndarray:
        """All indices in the order of this epoch, before they are dealt out: ``(num_examples,)`` int64."""
        return np.random.default_rng((self.seed, self.epoch)).permutation(self.num_examples)

    def __len__(self) -> int:
        """Examples of this rank in a whole epoch, also when the epoch is resumed in its middle."""
        return self._shares(self.num_examples // self.step_size * self.step_size or self.num_examples)

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank that are left in the epoch."""
        order = self.permutation()
        if self.overlapping:
            order = np.random.default_rng((self.seed, _OWN_ORDER, self.rank)).permutation(self.num_examples)[order]
        begin = self._resume[1] if self._resume[0] == self.epoch else 0
        left = order[begin : len(self) * self.world_size]
        dealt = left[: self._shares(len(left)) * self.world_size].reshape(-1, self.dealt_together)
        return iter(dealt[self.rank :: self.world_size].ravel().tolist())

    def _shares(self, count: int) -> int:
        """How many of ``count`` examples each rank gets."""
        return count // (self.world_size * self.dealt_together) * self.dealt_together


class BlockShuffledOrder(ShuffledOrder):
    """An order that stays for a while in one part of the data, for files that are read best in one go.

    The data are cut into blocks of neighbours. An epoch draws an order of the blocks and goes through it ``window``
    blocks at a time, whose examples it mixes. Dealing out and resuming are those of :class:`ShuffledOrder`: all ranks
    work in the same window, so that batches do not depend on their number.

    Args:
        num_examples: Size of the data set.
        starts: First example of each block, ascending from 0: ``(num_blocks,)`` integers.
        window: Blocks that are mixed; as many as there are make it as random as :class:`ShuffledOrder`.
        **kwargs: Of :class:`ShuffledOrder`.
    """

    def __init__(self, num_examples: int, *, starts: np.ndarray, window: int, **kwargs: Any) -> None:  # noqa: ANN401
        super().__init__(num_examples, **kwargs)
        self.starts = starts
        self.window = window

    def permutation(self) -> np.ndarray:
        """All indices in the order of this epoch, before they are dealt out: ``(num_examples,)`` int64."""
        rng = np.random.default_rng((self.seed, self.epoch))
        ends = np.append(self.starts[1:], self.num_examples)
        blocks = [np.arange(self.starts[block], ends[block]) for block in rng.permutation(len(self.starts))]
        windows = [
            rng.permutation(np.concatenate(blocks[first : first + self.window]))
            for first in range(0, len(blocks), self.window)
        ]
        return np.concatenate([np.empty(0, np.int64), *windows])


class BucketedOrder(ShuffledOrder):
    """Another order, made into batches whose examples are alike; ranks get whole batches in turn.

    A batch stands where the last of its examples stood, so that an order that stays in one part of the data goes on to
    do so. What is left of a bucket at the end of an epoch and does not fill a batch is left out: other examples in
    every epoch, and the same whether or not lengths are sorted.

    Args:
        order: In which examples come.
        buckets: Bucket of each example: ``(num_examples,)`` integers. A batch is of one bucket.
        batch_size: Examples of a batch.
        lengths: Length of each example in any unit: ``(num_examples,)`` integers; None = they do not matter.
        length_buckets: With lengths, so many batches of a bucket are filled together, from its short examples to its
            long ones.
    """

    def __init__(
        self,
        order: ShuffledOrder,
        buckets: np.ndarray,
        batch_size: int,
        *,
        lengths: np.ndarray | None = None,
        length_buckets: int = 1,
    ) -> None:
        super().__init__(
            order.num_examples,
            seed=order.seed,
            rank=order.rank,
            world_size=order.world_size,
            step_size=order.step_size,
        )
        self.order = order
        self.buckets = buckets
        self.lengths = lengths
        self.length_buckets = length_buckets
        self.dealt_together = batch_size
        self._whole = int((np.bincount(buckets) // batch_size).sum()) * batch_size

    def permutation(self) -> np.ndarray:
        """All indices of whole batches in the order of this epoch, before they are dealt out: ``(n,)`` int64."""
        self.order.set_epoch(self.epoch)
        indices = self.order.permutation()
        batches = batches_of(
            self.buckets[indices],
            self.dealt_together,
            keep_incomplete=False,
            lengths=None if self.lengths is None else self.lengths[indices],
            length_buckets=self.length_buckets,
        )
        places: np.ndarray = np.concatenate([np.empty(0, np.int64), *batches])
        return np.take(indices, places)

    def __len__(self) -> int:
        """Examples of this rank in a whole epoch, also when the epoch is resumed in its middle."""
        return self._shares(self._whole // self.step_size * self.step_size or self._whole)


def batches_of(
    buckets: np.ndarray,
    batch_size: int,
    *,
    keep_incomplete: bool,
    lengths: np.ndarray | None = None,
    length_buckets: int = 1,
) -> list[np.ndarray]:
    """Places of a sequence as batches of one bucket each, in the order in which they are filled.

    Args:
        buckets: Of each place: ``(n,)`` numbers.
        batch_size: Places of a batch.
        keep_incomplete: Whether what is left of a bucket is a smaller batch.
        lengths: Of each place, in any unit: ``(n,)`` integers; None = a batch is of the next places of its bucket.
        length_buckets: With lengths, so many batches are made of as many places of a bucket at a time, the shortest in
            one, the longest in another.

    Returns:
        ``(batch_size,)`` int64 each, ascending; a place is in at most one.

    >>> [batch.tolist() for batch in batches_of(np.array([0, 1, 0, 1, 1]), 2, keep_incomplete=True)]
    [[0, 2], [1, 3], [4]]
    >>> lengths = np.array([9, 1, 2, 8])
    >>> [b.tolist() for b in batches_of(np.zeros(4), 2, keep_incomplete=False, lengths=lengths, length_buckets=2)]
    [[1, 2], [0, 3]]
    """
    batches: list[np.ndarray] = []
    for bucket in np.unique(buckets):
        places = np.flatnonzero(buckets == bucket)
        if not keep_incomplete:  # before lengths are sorted: else it would always be long examples that are left out
            places = places[: len(places) // batch_size * batch_size]
        if lengths is not None:
            together = np.arange(len(places)) // (batch_size * length_buckets)
            places = places[np.lexsort((lengths[places], together))]
        batches += [np.sort(places[first : first + batch_size]) for first in range(0, len(places), batch_size)]
    return sorted(batches, key=lambda batch: int(batch[-1]))


@runtime_checkable
class HasBlocks(Protocol):
    """A reader that knows whether its neighbours are read together."""

    @property
    def blocks(self) -> tuple[np.ndarray, int] | None:
        """First example of each block, and blocks of a window; None = it can be read anywhere."""
        ...


def order_of(dataset: Any, num_examples: int, **kwargs: Any) -> ShuffledOrder:  # noqa: ANN401 - any reader
    """The order in which a data set is trained on.

    Args:
        dataset: A reader; one with :class:`HasBlocks` may ask for whole stretches.
        num_examples: Its length.
        **kwargs: Of :class:`ShuffledOrder`.

    Returns:
        At the beginning of its first epoch.
    """
    blocks = dataset.blocks if isinstance(dataset, HasBlocks) else None
    if blocks is None:
        return ShuffledOrder(num_examples, **kwargs)
    return BlockShuffledOrder(num_examples, starts=blocks[0], window=blocks[1], **kwargs)
