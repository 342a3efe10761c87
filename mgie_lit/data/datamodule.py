"""One DataModule for every data set: a reader says where examples come from, a collator makes batches."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import lightning
import numpy as np
import torch
from lightning.pytorch.strategies import FSDPStrategy, ModelParallelStrategy
from torch.utils.data import DataLoader

from mgie_lit.data.buckets import BucketTransform
from mgie_lit.data.cache.opened import Cache, EncodedCollator
from mgie_lit.data.collate import CutDataset, EditCollator
from mgie_lit.data.order import BucketedOrder, ShuffledOrder, batches_of, order_of
from mgie_lit.data.readers import EditDataset, KnowsLengths, KnowsSizes, no_lengths, no_sizes, require_expressive
from mgie_lit.data.windows import WindowedLoader
from mgie_lit.data.workers import WatchedDataset, ignore_interrupts
from mgie_lit.errors import ConfigError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.types import EditBatch, EditExample

LOG = logging.getLogger(__name__)

_Batch = TypeVar("_Batch", bound=Sequence[int])
_SPREAD_WEIGHTS = (FSDPStrategy, ModelParallelStrategy)


class EditDataModule(lightning.LightningDataModule):
    """Training and validation batches of one reader.

    Args:
        reader: Called with ``split`` and ``num_examples``, gives a data set.
        collator: Examples -> batch.
        num_examples: For ``train``, ``val`` and ``test``; None = all that there are.
        batch_size: Examples per process and step.
        num_workers: Loader processes; 0 = in the training process.
        seed: Of the training order.
        accumulation: Batches of one optimizer step; with several, each is told how many labels they have on average.
        faults: Which faults of the released code are kept.
        cache: What frozen parts made of the images beforehand.
        length_buckets: Training batches filled together, from short texts to long ones; None = lengths do not matter.
    """

    def __init__(
        self,
        reader: Callable[..., EditDataset],
        collator: EditCollator,
        *,
        num_examples: Mapping[str, int | None],
        batch_size: int,
        num_workers: int = 0,
        seed: int = 0,
        accumulation: int = 1,
        faults: Faults = NO_FAULTS,
        cache: Cache | None = None,
        length_buckets: int | None = None,
    ) -> None:
        super().__init__()
        self.reader = reader
        self.collator = collator
        self.num_examples = dict(num_examples)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self.accumulation = accumulation
        self.faults = faults
        self.cache = cache
        self.length_buckets = length_buckets
        self._order: ShuffledOrder | None = None
        self._resume = (0, 0)
        self._datasets: dict[str, EditDataset] = {}
        self.watched: list[WatchedDataset] = []  # what loader processes read

    def dataset(self, split: str) -> EditDataset:
        """The examples of ``train``, ``val`` or ``test``."""
        if split not in self._datasets:
            dataset = self.reader(split=split, num_examples=self.num_examples[split])
            if self.collator.prompt.needs_expressive:
                require_expressive(dataset, split)
            self._datasets[split] = dataset
        return self._datasets[split]

    def check(self, *, world_size: int, splits: Sequence[str] = ("train", "val")) -> None:
        """Open the data as a training does at its start; no image is opened.

        Args:
            world_size: Number of processes.
            splits: Those that it reads; with ``train`` their number is compared with the batch.

        Raises:
            ConfigError: Examples lack what the guide needs, or are too few for a single batch.
            DataError: The data can not be read.
        """
        for split in splits:
            dataset = self.dataset(split)
            if split == "train":
                self._require_batch(len(self._order_of(dataset, 0, world_size)), len(dataset), world_size)

    def train_dataloader(self) -> DataLoader[EditExample]:
        """Shuffled batches of equal size; the incomplete last one is dropped.

        Returns:
            This rank's share of the epoch; after a resume it begins where the interrupted run stopped.

        Raises:
            ConfigError: There are too few examples for a single batch.
        """
        dataset = self.dataset("train")
        rank, world_size = (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)
        order = self._order_of(dataset, rank, world_size)
        self._require_batch(len(order), len(dataset), world_size)
        self._order = self._bucketed(order, dataset)
        self._require_batch(len(self._order), len(dataset), world_size, " of one bucket")
        self._order.resume_at(*self._next_epoch_if_over(*self._resume))
        window = 1 if self.faults.local_label_mean else self.accumulation
        return self._loader(dataset, batch_size=self.batch_size, sampler=self._order, drop_last=True, window=window)

    def val_dataloader(self) -> DataLoader[EditExample]:
        """This rank's share of the batches, without padding: in order, or as batches of one bucket are filled."""
        dataset = self.dataset("val")
        if isinstance(self.collator.transform, BucketTransform):
            batches = batches_of(self._buckets(dataset), self.batch_size, keep_incomplete=True)
            return self._loader(dataset, batch_sampler=self._share_of([batch.tolist() for batch in batches]))
        share = self.share_of_batches(len(dataset), self.batch_size)
        return self._loader(dataset, batch_size=self.batch_size, sampler=share, drop_last=False)

    def share_of_batches(self, num_examples: int, batch_size: int) -> list[int]:
        """Which of the first examples this rank validates: whole batches, each the same as in one process.

        Args:
            num_examples: Examples that all ranks share.
            batch_size: Of neighbours that stay together.

        Returns:
            Indices in order. All of them where there are fewer batches than ranks, and under a strategy that spreads
            the weights over ranks, which needs all of them for every batch.
        """
        indices = range(num_examples)
        batches = [indices[first : first + batch_size] for first in range(0, num_examples, batch_size)]
        return [index for batch in self._share_of(batches) for index in batch]

    def state_dict(self) -> dict[str, Any]:
        """Epoch and position of the next example, and the examples of a batch, counted over all ranks."""
        assert self.trainer is not None
        batches = self.trainer.fit_loop.epoch_loop.batch_progress.current.ready
        batch = self.batch_size * self.trainer.world_size
        return {"epoch": self.trainer.current_epoch, "position": batches * batch, "batch": batch}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on where ``state_dict`` says."""
        self._resume = (int(state_dict["epoch"]), int(state_dict["position"]))

    def transfer_batch_to_device(self, batch: EditBatch, device: Any, dataloader_idx: int) -> EditBatch:  # noqa: ANN401
        """Move a batch without waiting."""
        return batch.to(device)

    def _share_of(self, batches: list[_Batch]) -> list[_Batch]:
        """Those that this rank validates."""
        if self.trainer is None or isinstance(self.trainer.strategy, _SPREAD_WEIGHTS):
            return batches
        mine = batches[self.trainer.global_rank :: self.trainer.world_size]
        return mine if len(batches) >= self.trainer.world_size else batches

    def _order_of(self, dataset: EditDataset, rank: int, world_size: int) -> ShuffledOrder:
        """Which training examples a rank gets, before they are sorted into buckets."""
        return order_of(
            dataset,
            len(dataset),
            seed=self.seed,
            rank=rank,
            world_size=world_size,
            step_size=self.batch_size * self.accumulation * world_size,
            overlapping=self.faults.overlapping_ranks,
        )

    def _require_batch(self, count: int, total: int, world_size: int, alike: str = "") -> None:
        """Each process needs a whole batch.

        Args:
            count: Examples that a process can fill batches with.
            total: Training examples of all processes.
            world_size: Number of processes.
            alike: What they have in common, for the message.

        Raises:
            ConfigError: They are fewer; the message says what is possible.
        """
        if count >= self.batch_size:
            return
        limit = self.num_examples["train"]
        more = "raise data.num_examples.train" if limit is not None and limit <= total else "add more pairs"
        less = f"use data.batch_size={count} or less" if count else "use fewer processes"
        raise ConfigError(
            f"data.batch_size: expected at most the {count} training examples{alike} that each of {world_size} "
            f"{'process' if world_size == 1 else 'processes'} has, got {self.batch_size}; {less}, or {more}"
        )

    def _bucketed(self, order: ShuffledOrder, dataset: EditDataset) -> ShuffledOrder:
        """The order with batches of pictures of one shape, of texts about as long, of both, or as it is."""
        has_shapes = isinstance(self.collator.transform, BucketTransform)
        if not has_shapes and self.length_buckets is None:
            return order
        buckets = self._buckets(dataset) if has_shapes else np.zeros(len(dataset), np.int64)
        if has_shapes and order.rank == 0:
            _warn_about_rare(buckets, self.batch_size)
        if self.length_buckets is None:
            return BucketedOrder(order, buckets, self.batch_size)
        lengths, together = self._lengths(dataset), self.length_buckets
        return BucketedOrder(order, buckets, self.batch_size, lengths=lengths, length_buckets=together)

    def _lengths(self, dataset: EditDataset) -> np.ndarray:
        """Characters of each example's words that the guide reads: about in proportion to their tokens."""
        if not isinstance(dataset, KnowsLengths):
            raise no_lengths(type(dataset).__name__)
        lengths = dataset.text_lengths()
        return lengths.sum(1) if self.collator.prompt.needs_expressive else lengths[:, 0]

    def _buckets(self, dataset: EditDataset) -> np.ndarray:
        """Bucket of each example."""
        assert isinstance(self.collator.transform, BucketTransform)
        if not isinstance(dataset, KnowsSizes):
            raise no_sizes(type(dataset).__name__)
        return self.collator.transform.choose(dataset.source_sizes())

    def _next_epoch_if_over(self, epoch: int, position: int) -> tuple[int, int]:
        """Loader processes read ahead before the trainer names the next epoch, so it has to be known from the start."""
        assert self._order is not None
        batches = len(self._order) // self.batch_size
        is_over = position >= batches * self.batch_size * self._order.world_size
        return (epoch + 1, 0) if is_over else (epoch, position)

    def _loader(self, dataset: EditDataset, **kwargs: Any) -> DataLoader[EditExample]:  # noqa: ANN401
        examples: Any = self.cache.encoded(dataset) if self.cache else CutDataset(dataset, self.collator)
        if self.num_workers:
            examples = WatchedDataset(examples, dataset, self.num_workers)
            self.watched.append(examples)
        return WindowedLoader(
            examples,
            num_workers=self.num_workers,
            collate_fn=EncodedCollator(self.collator) if self.cache else self.collator.collect,
            finish=self.collator.finish,
            persistent_workers=self.num_workers > 0,
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator().manual_seed(self.seed),  # else it draws from the process's own, epoch by epoch
            **kwargs,
        )


def _warn_about_rare(buckets: np.ndarray, batch_size: int) -> None:
    """Name what is never trained on, as it does not fill a batch."""
    counts = np.bincount(buckets)
    rare = int(counts[counts < batch_size].sum())
    if rare:
        LOG.warning(
            "data.max_aspect: %d of %d training examples are in buckets of fewer than data.batch_size=%d, so they are "
            "not trained on; lower data.batch_size or data.max_aspect",
            *(rare, len(buckets), batch_size),
        )
