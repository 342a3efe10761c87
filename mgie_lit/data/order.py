"""Order of the examples: a function of seed, epoch and position, the same whatever the number of ranks."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

_OWN_ORDER = 4096  # keeps the draw of a process apart from those of the epochs


class ShuffledOrder(Sampler[int]):
    """A new permutation every epoch, dealt out to the ranks in turn; a run can go on in the middle of an epoch.

    Args:
        num_examples: Size of the data set.
        seed: Of the run.
        rank: This process.
        world_size: All processes; each gets ``num_examples // world_size`` examples, none twice.
        overlapping: Deal out a permutation that every process has drawn for itself, as ml-mgie: some examples come
            several times in an epoch, others not at all.
    """

    def __init__(
        self, num_examples: int, *, seed: int, rank: int = 0, world_size: int = 1, overlapping: bool = False
    ) -> None:
        self.num_examples = num_examples
        self.seed = seed
        self.rank = rank
        self.world_size = world_size
        self.overlapping = overlapping
        self.epoch = 0
        self._resume = (0, 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation; the trainer calls it when an epoch begins."""
        self.epoch = epoch

    def resume_at(self, epoch: int, position: int) -> None:
        """Begin ``epoch`` after its first ``position`` examples (counted over all ranks)."""
        self.epoch = epoch
        self._resume = (epoch, position)

    def __len__(self) -> int:
        """Examples of this rank in a whole epoch, also when the epoch is resumed in its middle."""
        return self.num_examples // self.world_size

    def __iter__(self) -> Iterator[int]:
        """Indices of this rank that are left in the epoch."""
        order = np.random.default_rng((self.seed, self.epoch)).permutation(self.num_examples)
        if self.overlapping:
            order = np.random.default_rng((self.seed, _OWN_ORDER, self.rank)).permutation(self.num_examples)[order]
        whole = order[: len(self) * self.world_size]
        begin = self._resume[1] if self._resume[0] == self.epoch else 0
        return iter(whole[begin:][self.rank :: self.world_size].tolist())
