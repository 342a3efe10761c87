"""Making a cache: examples opened in loader processes, encoded in batches, written shard by shard."""

from __future__ import annotations

import logging
from collections import Counter
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from rich.console import Console
from rich.progress import track
from torch.utils.data import DataLoader, Dataset

from mgie_lit.data.cache.files import damaged_files, remove_drafts
from mgie_lit.data.cache.recipe import LATENTS, canonical_precision
from mgie_lit.data.cache.samples import FOLDER, KnowsFiles, Sample, SampleTable, describe, is_untouched
from mgie_lit.data.cache.values import ValueStore
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.models.autoencoder import latent_distribution

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mgie_lit.data.cache.recipe import Recipe
    from mgie_lit.data.collate import EditCollator
    from mgie_lit.data.readers import EditDataset
    from mgie_lit.editor import Editor

LOG = logging.getLogger(__name__)

LOCK = "writing.lock"
_AUTOCAST = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
_WEIGHTS = {"bf16-true": torch.bfloat16, "16-true": torch.float16, "64-true": torch.float64}


class Encoder:
    """The frozen parts of an editor, computing as a training with this precision would let them.

    Args:
        editor: In eval mode; its parts are moved and converted in place.
        device: Where to compute.
        precision: ``trainer.precision``.

    Raises:
        ConfigError: The precision is none that a cache can be made for.
    """

    def __init__(self, editor: Editor, device: torch.device, precision: str | int) -> None:
        self.device = device
        self.precision = canonical_precision(precision)
        if self.precision not in {"32-true", *_AUTOCAST, *_WEIGHTS}:
            known = ", ".join(["32-true", *_AUTOCAST, *_WEIGHTS])
            raise ConfigError(f"trainer.precision: expected one of {known} for a cache, got {precision}")
        dtype = _WEIGHTS.get(self.precision)
        autoencoder: Any = editor.autoencoder
        self.autoencoder = autoencoder.to(device, dtype)
        self.mllm: Any = getattr(editor.guide, "mllm", None)
        if self.mllm is not None and self.mllm.vision_tower is not None:
            self.mllm.vision_tower.to(device, dtype)

    @torch.no_grad()
    def encode(self, kind: str, items: Sequence[Item]) -> dict[str, Tensor]:
        """Tensors of a batch by fields of ``EditBatch``, on the CPU, in the type in which they were computed."""
        with self._autocast():
            made = self._latents(items) if kind == LATENTS else self._vision(items)
        return {name: value.cpu() for name, value in made.items()}

    def _latents(self, items: Sequence[Item]) -> dict[str, Tensor]:
        source = latent_distribution(self.autoencoder, self._batch(items, "source"))
        target = latent_distribution(self.autoencoder, self._batch(items, "target"))
        return {"source_latents": source.mode(), "target_mean": target.mean, "target_std": target.std}

    def _vision(self, items: Sequence[Item]) -> dict[str, Tensor]:
        return {"vision_states": self.mllm.vision_states(self._batch(items, "mllm_pixels"))}

    def _batch(self, items: Sequence[Item], name: str) -> Tensor:
        return torch.stack([item.pixels[name] for item in items]).to(self.device)

    def _autocast(self) -> AbstractContextManager[Any]:
        dtype = _AUTOCAST.get(self.precision)
        return nullcontext() if dtype is None else torch.autocast(self.device.type, dtype)


@dataclass(slots=True)
class Item:
    """An example on its way into the cache; without ``sample`` it is there already."""

    sample: Sample | None = None
    missing: tuple[str, ...] = ()  # kinds to encode
    pixels: dict[str, Tensor] = field(default_factory=dict)  # fields of EditBatch, without the axis of the batch

    @property
    def shape(self) -> str:
        """Equal for items that can be encoded together."""
        return str({name: tuple(value.shape) for name, value in self.pixels.items()})


class _Opened(Dataset[Item]):
    """Examples, opened only where something may be missing; runs in loader processes."""

    def __init__(
        self, dataset: EditDataset, collator: EditCollator, samples: SampleTable, stores: Mapping[str, ValueStore]
    ) -> None:
        self.dataset, self.collator, self.samples, self.stores = dataset, collator, samples, stores

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Item:
        reader = self.dataset
        files = reader.image_files(index) if isinstance(reader, KnowsFiles) else ()
        known = self.samples.find(reader.sample_id(index))
        if known is not None and not self._missing(known) and is_untouched(known, files):
            return Item()
        example = reader[index]
        if example.target is None:
            raise DataError(f"{example.sample_id}: training needs a target image, the data set has none for it")
        sample = describe(example, files)
        missing = self._missing(sample)
        if not missing:
            return Item() if sample == known else Item(sample)
        images = self.collator.images([example])
        return Item(sample, missing, {name: value[0] for name, value in images.items() if value is not None})

    def _missing(self, sample: Sample) -> tuple[str, ...]:
        return tuple(kind for kind, store in self.stores.items() if sample.keys[kind] not in store)


class _Shards:
    """What was encoded and is not written yet; values go to disk before the samples that need them."""

    def __init__(self, samples: SampleTable, stores: Mapping[str, ValueStore], shard_size: int) -> None:
        self._samples, self._stores, self._shard_size = samples, stores, shard_size
        self._rows: list[Sample] = []
        # By kind and by shape: a file holds tensors of one shape.
        self._values: dict[str, dict[str, list[tuple[list[bytes], dict[str, Tensor]]]]] = {kind: {} for kind in stores}
        self._keys: dict[str, set[bytes]] = {kind: set() for kind in stores}

    def holds(self, kind: str, key: bytes) -> bool:
        return key in self._stores[kind] or key in self._keys[kind]

    def add_values(self, kind: str, keys: list[bytes], values: dict[str, Tensor]) -> None:
        self._keys[kind] |= set(keys)
        shape = str([tuple(value.shape[1:]) for value in values.values()])
        self._values[kind].setdefault(shape, []).append((keys, values))

    def add_samples(self, samples: list[Sample]) -> None:
        self._rows += samples
        if len(self._rows) >= self._shard_size:
            self.flush()

    def flush(self) -> None:
        for kind, by_shape in self._values.items():
            for parts in by_shape.values():
                keys = [key for keys, _ in parts for key in keys]
                values = {name: torch.cat([part[name] for _, part in parts]) for name in parts[0][1]}
                self._stores[kind].append(keys, values)
            self._keys[kind], self._values[kind] = set(), {}
        if self._rows:
            self._samples.append(self._rows)
            self._rows = []


def build_cache(
    folder: Path,
    datasets: Mapping[str, EditDataset],
    collator: EditCollator,
    recipes: Mapping[str, Recipe],
    encoder: Encoder,
    *,
    batch_size: int = 16,
    num_workers: int = 0,
    shard_size: int = 1024,
    verify: bool = False,
) -> Counter[str]:
    """Bring a cache up to date: encode what is not there, or was made of other pixels.

    What a killed run has written is kept; a damaged file is removed and its content made again.

    Args:
        folder: Of the cache; is made where it is missing.
        datasets: By split.
        collator: Of the training.
        recipes: By kind, what to encode.
        encoder: Of the training's editor.
        batch_size: Examples encoded together.
        num_workers: Loader processes.
        shard_size: Examples that a kill costs at most.
        verify: Read all files of the cache, also those that were right before and not written to since.

    Returns:
        Number of ``examples``, and of entries encoded by kind.

    Raises:
        DataError: Another process writes to the cache, or an image can not be opened.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder):
        remove_drafts(folder)
        _drop_damaged(folder / FOLDER, verify)
        stores = {}
        for kind, recipe in recipes.items():
            _drop_damaged(ValueStore.create(folder, recipe).folder, verify)
            stores[kind] = ValueStore.create(folder, recipe)
        samples = SampleTable(folder)
        counts: Counter[str] = Counter()
        shards = _Shards(samples, stores, shard_size)
        for split, dataset in datasets.items():
            opened = _Opened(dataset, collator, samples, stores)
            loader = DataLoader(opened, batch_size, num_workers=num_workers, collate_fn=list)
            for items in track(loader, f"encoding {split}", console=Console(stderr=True), transient=True):
                counts["examples"] += len(items)
                counts.update(_encode_batch(items, encoder, shards, stores))
            shards.flush()
    return counts


def _encode_batch(
    items: list[Item], encoder: Encoder, shards: _Shards, stores: Mapping[str, ValueStore]
) -> dict[str, int]:
    """Encode what is missing, each key once; gives the number of entries by kind."""
    counts: dict[str, int] = {}
    for kind in stores:
        new = {item.sample.keys[kind]: item for item in items if item.sample is not None and kind in item.missing}
        by_shape: dict[str, dict[bytes, Item]] = {}
        for key, item in new.items():
            if not shards.holds(kind, key):
                by_shape.setdefault(item.shape, {})[key] = item
        for alike in by_shape.values():
            shards.add_values(kind, list(alike), encoder.encode(kind, list(alike.values())))
            counts[kind] = counts.get(kind, 0) + len(alike)
    shards.add_samples([item.sample for item in items if item.sample is not None])
    return counts


def _locked(folder: Path) -> AbstractContextManager[Any]:
    lock = FileLock(folder / LOCK)
    try:
        return lock.acquire(timeout=0)
    except Timeout as error:
        raise DataError(
            f"data.cache: another process writes to {folder}; wait for it, or give another folder"
        ) from error


def _drop_damaged(folder: Path, verify: bool) -> None:
    for path in damaged_files(folder, trust_stamps=not verify) if folder.is_dir() else []:
        LOG.warning("data.cache: %s is damaged and made again", path)
        path.unlink()
