"""Examples -> a batch of tensors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from mgie_lit.data.vision_pixels import VisionPixels
from mgie_lit.errors import DataError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.functional.images import levels_to_signed, pil_to_levels
from mgie_lit.prompts import PromptRow, RowBuilder
from mgie_lit.types import EditBatch, EditExample
from mgie_lit.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers.image_processing_utils import BaseImageProcessor

    from mgie_lit.data.buckets import BucketTransform
    from mgie_lit.data.readers import EditDataset
    from mgie_lit.data.transforms import PairTransform, TwoStepTransform

_PICTURES = ("source", "target", "mllm_pixels")  # fields of EditBatch


class HasTexts(Protocol):
    """The words of an example."""

    @property
    def sample_id(self) -> str: ...  # noqa: D102

    @property
    def instruction(self) -> str: ...  # noqa: D102

    @property
    def expressive_instruction(self) -> str | None: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class CutExample:
    """One row with its pictures cut: small, and a quarter of the size that they have as numbers."""

    sample_id: str
    instruction: str
    expressive_instruction: str | None
    levels: Mapping[str, torch.Tensor]  # fields of EditBatch, without the axis of the batch, uint8


class CutDataset(Dataset[CutExample]):
    """A reader's examples, each cut as soon as it is open, so that one pair of photographs is in memory at a time.

    Args:
        dataset: The reader.
        collator: Of the batches.
    """

    def __init__(self, dataset: EditDataset, collator: EditCollator) -> None:
        self.dataset = dataset
        self.collator = collator

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.dataset)

    def __getitem__(self, index: int) -> CutExample:
        """The example at ``index``; raises what reader and collator raise."""
        return self.collator.cut(self.dataset[index])


class EditCollator:
    """Crops both images the same way, builds the conversation and finds where the visual tokens stand.

    Loader processes do it in two parts, :meth:`cut` and :meth:`collect`. The pictures of their batches are 8-bit
    levels, a quarter of the bytes that have to go from process to process; :meth:`finish` makes numbers of them.

    Args:
        prompt: Of the guide; builds ids and labels.
        image_processor: RGB images -> pixels of the vision tower; None = the guide does not look at the image.
        transform: The geometry, the same for source and target.
        faults: Which faults of the released code are kept.
    """

    def __init__(
        self,
        prompt: RowBuilder,
        image_processor: BaseImageProcessor | None,
        transform: PairTransform | TwoStepTransform | BucketTransform,
        *,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.prompt = prompt
        self.image_processor = image_processor
        self.transform = transform
        self.faults = faults
        self._vision = None if image_processor is None else VisionPixels(image_processor, transform.resampler)

    def __call__(self, examples: Sequence[EditExample]) -> EditBatch:
        """A batch of examples that all have a target and, where the guide wants it, an expressive instruction.

        Args:
            examples: Read from a data set, pictures of any size.

        Returns:
            The batch in the examples' order; ids and labels are padded on the right.

        Raises:
            DataError: One lacks its target or expressive instruction, or its instruction is too long; the message gives
                its id.
        """
        return self.finish(self.collect([self.cut(example) for example in examples]))

    def images(self, examples: Sequence[EditExample]) -> dict[str, torch.Tensor | None]:
        """``source``, ``target`` and ``mllm_pixels`` of a batch; examples without a target raise ``DataError``."""
        return self._numbers(_stacked([self.cut(example) for example in examples]))

    def cut(self, example: EditExample) -> CutExample:
        """One example with its pictures at the sizes of the batch.

        Args:
            example: Read from a data set, pictures of any size.

        Returns:
            Its words and levels.

        Raises:
            DataError: It lacks its target; the message gives its id.
        """
        cut, seen = self.transform.views(example)
        if cut.target is None:
            raise DataError(f"{example.sample_id}: training needs a target image, the data set has none for it")
        levels = {"source": pil_to_levels(cut.source), "target": pil_to_levels(cut.target)}
        if self._vision is not None:
            levels["mllm_pixels"] = self._vision.levels(seen)
        return CutExample(example.sample_id, example.instruction, example.expressive_instruction, levels)

    def collect(self, examples: Sequence[CutExample]) -> EditBatch:
        """A batch whose pictures are levels; raises as :meth:`assemble` does."""
        return self.assemble(examples, **_stacked(examples))

    def finish(self, batch: EditBatch) -> EditBatch:
        """A batch of :meth:`collect` with numbers in place of levels; any other one comes back itself."""
        if batch.source is None or batch.source.is_floating_point():
            return batch
        return replace(batch, **self._numbers({name: getattr(batch, name) for name in _PICTURES}))

    def assemble(self, examples: Sequence[HasTexts], **images: Any) -> EditBatch:  # noqa: ANN401
        """A batch from texts and from images that are tensors already.

        Args:
            examples: In order; only their ids and texts are used.
            **images: Fields of ``EditBatch``.

        Returns:
            The batch.

        Raises:
            DataError: One lacks its expressive instruction, or its instruction is too long.
        """
        for example in examples:
            _require_expressive(example, needs_expressive=self.prompt.needs_expressive)
        rows = [self._row(example) for example in examples]
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        pad_id = int(self.prompt.tokenizer.pad_token_id)
        input_ids = pad_sequence([torch.tensor(row.input_ids) for row in rows], True, pad_id)  # (B, S)
        is_token = torch.arange(input_ids.shape[1]) < lengths[:, None]
        labels = pad_sequence([torch.tensor(row.labels) for row in rows], True, IGNORE_INDEX)  # (B, S)
        return EditBatch(
            sample_ids=[example.sample_id for example in examples],
            instructions=[example.instruction for example in examples],
            expressive_instructions=[example.expressive_instruction or "" for example in examples],
            input_ids=input_ids,
            attention_mask=input_ids != pad_id if self.faults.mask_unknown_tokens else is_token,
            labels=labels,
            label_positions=(labels[:, 1:] != IGNORE_INDEX).flatten().nonzero()[:, 0],
            visual_token_start=torch.tensor([row.visual_token_start for row in rows]),
            **images,
        )

    def _numbers(self, levels: Mapping[str, torch.Tensor | None]) -> dict[str, Any]:
        """Pictures of a batch as the autoencoder and the vision tower want them."""
        source, target, seen = (levels[name] for name in _PICTURES)
        assert source is not None
        assert target is not None
        return {
            "source": levels_to_signed(source),
            "target": levels_to_signed(target),
            "mllm_pixels": None if seen is None or self._vision is None else self._vision.finish(seen),
        }

    def _row(self, example: HasTexts) -> PromptRow:
        try:
            return self.prompt.training_row(example.instruction, example.expressive_instruction or "")
        except ValueError as error:
            raise DataError(f"{example.sample_id}: {error}") from error


def _stacked(examples: Sequence[CutExample]) -> dict[str, torch.Tensor | None]:
    """Levels of a batch, ``(B, 3, H, W)``."""
    names = examples[0].levels
    _require_one_size(examples)
    return {
        name: torch.stack([example.levels[name] for example in examples]) if name in names else None
        for name in _PICTURES
    }


def _require_one_size(examples: Sequence[CutExample]) -> None:
    """Buckets go by sizes that were measured before."""
    sizes = {tuple(example.levels["source"].shape[1:]): example.sample_id for example in examples}
    if len(sizes) > 1:
        found = ", ".join(f"{width} x {height} ({name})" for (height, width), name in sizes.items())
        raise DataError(
            f"data.max_aspect: expected pictures of one bucket in a batch, got {found}: they have changed since they "
            "were measured; remove the folder <data>-<split>-sizes-... beside the index (docs/datasets.md#buckets)"
        )


def _require_expressive(example: HasTexts, *, needs_expressive: bool) -> None:
    if needs_expressive and example.expressive_instruction is None:
        raise DataError(
            f"{example.sample_id}: training needs an expressive instruction, the data set has none for it; add what "
            "the result looks like, in words"
        )
