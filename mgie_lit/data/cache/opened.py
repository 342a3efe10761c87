"""A cache as a training uses it: checked against the training's own parts, then read example by example."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch.utils.data import Dataset

from mgie_lit.data.cache.files import require_whole
from mgie_lit.data.cache.recipe import KINDS, LATENTS, VISION, Recipe, recipes_of
from mgie_lit.data.cache.samples import FOLDER, KnowsFiles, Sample, SampleTable, is_untouched, pixel_digest
from mgie_lit.data.cache.values import ValueStore, other_recipes, store_folder
from mgie_lit.data.readers import listing
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor

    from mgie_lit.data.collate import EditCollator
    from mgie_lit.data.readers import EditDataset
    from mgie_lit.editor import Editor
    from mgie_lit.types import EditBatch, EditExample

LOG = logging.getLogger(__name__)

REMEDY = "run `mgie prepare cache` again with the overrides of this training"
_NAMES_SHOWN = 5


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One row whose images were encoded before."""

    sample_id: str
    instruction: str
    expressive_instruction: str | None
    tensors: Mapping[str, Tensor]  # fields of EditBatch, without the axis of the batch
    example: EditExample | None = None  # with images, where the training needs some all the same


@dataclass(frozen=True, slots=True)
class Cache:
    """An opened cache."""

    folder: Path
    samples: SampleTable
    stores: Mapping[str, ValueStore]  # by kind
    needs_images: bool  # whether the training needs pixels beside what is cached

    def encoded(self, dataset: EditDataset) -> EncodedDataset:
        """The examples of a reader, with their tensors."""
        return EncodedDataset(dataset, self)

    def read(self, sample: Sample) -> dict[str, Tensor]:
        """Tensors of an example.

        Args:
            sample: What was encoded for it.

        Returns:
            By fields of ``EditBatch``, without the axis of the batch.

        Raises:
            DataError: The cache is not complete.
        """
        tensors: dict[str, Tensor] = {}
        for kind, store in self.stores.items():
            try:
                tensors |= store.read(sample.keys[kind])
            except KeyError:
                raise DataError(
                    f"data.cache: {sample.sample_id}: expected {kind} in {store.folder}, found none; {REMEDY}"
                ) from None
        return tensors


class EncodedDataset(Dataset[EncodedExample]):
    """A reader's examples with what the cache holds for them; an image that has changed since is an error.

    Where the reader knows its files, they are not even opened: it is enough that nobody wrote to them, or that their
    bytes are the same. Otherwise the example is opened and its pixels are compared.

    Args:
        dataset: The reader.
        cache: Made of the same data.

    Raises:
        DataError: The cache lacks examples; the message names the first few.
    """

    def __init__(self, dataset: EditDataset, cache: Cache) -> None:
        self.dataset = dataset
        self.cache = cache
        self._rows = cache.samples.rows_of([dataset.sample_id(index) for index in range(len(dataset))])
        missing = np.flatnonzero(self._rows < 0).tolist()
        if missing:
            names = [dataset.sample_id(index) for index in missing[:_NAMES_SHOWN]]
            raise DataError(
                f"data.cache: expected all {len(dataset)} examples in {cache.folder}, {len(missing)} are not there "
                f"({listing(names, len(missing))}); {REMEDY}"
            )

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> EncodedExample:
        """The example at ``index``.

        Args:
            index: In ``[0, len)``.

        Returns:
            Its words of now and its tensors; its images, too, where the training needs some.

        Raises:
            DataError: Its images are others than those that were encoded, or can not be opened.
        """
        sample = self.cache.samples.at(int(self._rows[index]))
        reader = self.dataset
        if (
            not self.cache.needs_images
            and isinstance(reader, KnowsFiles)
            and is_untouched(sample, reader.image_files(index))
        ):
            return EncodedExample(sample.sample_id, *reader.texts(index), self.cache.read(sample))
        example = reader[index]
        _check_pixels(sample, example)
        texts = (example.instruction, example.expressive_instruction)
        tensors = self.cache.read(sample)
        return EncodedExample(sample.sample_id, *texts, tensors, example if self.cache.needs_images else None)


class EncodedCollator:
    """Batches of encoded examples.

    Args:
        collator: Of the same training without a cache.
    """

    def __init__(self, collator: EditCollator) -> None:
        self.collator = collator

    def __call__(self, examples: Sequence[EncodedExample]) -> EditBatch:
        """A batch in the examples' order; only what is not cached is made from pixels."""
        fields = {name: torch.stack([row.tensors[name] for row in examples]) for name in examples[0].tensors}
        opened = [row.example for row in examples if row.example is not None]
        images = self.collator.images(opened) if opened else dict.fromkeys(("source", "target", "mllm_pixels"))
        if "source_latents" in fields:
            images["source"] = images["target"] = None
        if "vision_states" in fields:
            images["mllm_pixels"] = None
        return self.collator.assemble(examples, **images, **fields)


def open_cache(folder: str | Path | None, editor: Editor, collator: EditCollator, precision: str | int) -> Cache | None:
    """The cache of a training, after a check that it fits.

    Args:
        folder: ``data.cache``; None = there is none.
        editor: With its trainable parameters chosen.
        collator: Of the training.
        precision: ``trainer.precision``.

    Returns:
        The cache, or None.

    Raises:
        ConfigError: There is no such folder, nothing of this system can be cached, or what is cached was made
            differently: the message says in what.
        DataError: A file of the cache is damaged.
    """
    if folder is None:
        return None
    path = Path(folder).expanduser()
    if not (path / FOLDER).is_dir():
        raise ConfigError(f"data.cache: expected a folder made by `mgie prepare cache`, got {path}; {REMEDY}, or null")
    require_whole(path / FOLDER, f"remove it and {REMEDY}")
    recipes = recipes_of(editor, collator, precision)
    stores: dict[str, ValueStore] = {}
    for kind in KINDS:
        store = _open_store(path, kind, recipes[kind])
        if store is not None:
            stores[kind] = store
    if not stores:
        raise ConfigError(f"data.cache: {path} holds nothing that this training can use; {REMEDY}, or use null")
    sees = collator.image_processor is not None
    needs_images = LATENTS not in stores or (sees and VISION not in stores)
    return Cache(path, SampleTable(path), stores, needs_images)


def _open_store(cache: Path, kind: str, recipe: Recipe | str) -> ValueStore | None:
    others = other_recipes(cache, kind)
    if isinstance(recipe, str):
        LOG.info("data.cache: no %s are taken from %s: %s", kind, cache, recipe)
        return None
    if dict(recipe.facts) in others:
        folder = store_folder(cache, recipe)
        require_whole(folder, f"remove it and {REMEDY}")
        return ValueStore(folder)
    if not others:
        LOG.info("data.cache: %s holds no %s; they are made in every step", cache, kind)
        return None
    nearest = min((recipe.differences(facts) for facts in others), key=len)
    raise ConfigError("\n".join([f"data.cache: the {kind} in {cache} were made differently; {REMEDY}", *nearest]))


def _check_pixels(sample: Sample, example: EditExample) -> None:
    for name in ("source", "target"):
        image = getattr(example, name)
        if image is None or pixel_digest(image) != getattr(sample, name):
            raise DataError(
                f"data.cache: {sample.sample_id}: the {name} has other pixels than when it was encoded: the data have "
                f"changed; {REMEDY}"
            )
