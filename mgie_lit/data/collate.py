"""Examples -> a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from mgie_lit.errors import DataError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.functional.images import pil_to_unit, to_signed
from mgie_lit.prompts import PromptRow, RowBuilder
from mgie_lit.types import EditBatch, EditExample
from mgie_lit.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers.image_processing_utils import BaseImageProcessor

    from mgie_lit.data.transforms import PairTransform, TwoStepTransform


class HasTexts(Protocol):
    """The words of an example."""

    @property
    def sample_id(self) -> str: ...  # noqa: D102

    @property
    def instruction(self) -> str: ...  # noqa: D102

    @property
    def expressive_instruction(self) -> str | None: ...  # noqa: D102


class EditCollator:
    """Crops both images the same way, builds the conversation and finds where the visual tokens stand.

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
        transform: PairTransform | TwoStepTransform,
        *,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.prompt = prompt
        self.image_processor = image_processor
        self.transform = transform
        self.faults = faults

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
        return self.assemble(examples, **self.images(examples))

    def images(self, examples: Sequence[EditExample]) -> dict[str, torch.Tensor | None]:
        """``source``, ``target`` and ``mllm_pixels`` of a batch; examples without a target raise ``DataError``."""
        for example in examples:
            _require_target(example)
        cut = [self.transform(example) for example in examples]
        return {
            "source": _stack(_sources(cut)),
            "target": _stack([example.target for example in cut if example.target is not None]),
            "mllm_pixels": self._mllm_pixels(_sources(examples), _sources(cut)),
        }

    def assemble(self, examples: Sequence[HasTexts], **images: torch.Tensor | None) -> EditBatch:
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
        return EditBatch(
            sample_ids=[example.sample_id for example in examples],
            instructions=[example.instruction for example in examples],
            expressive_instructions=[example.expressive_instruction or "" for example in examples],
            input_ids=input_ids,
            attention_mask=input_ids != pad_id if self.faults.mask_unknown_tokens else is_token,
            labels=pad_sequence([torch.tensor(row.labels) for row in rows], True, IGNORE_INDEX),
            visual_token_start=torch.tensor([row.visual_token_start for row in rows]),
            **images,
        )

    def _mllm_pixels(self, originals: list[Image.Image], cut: list[Image.Image]) -> torch.Tensor | None:
        """``(B, 3, P, P)`` for the vision tower."""
        if self.image_processor is None:
            return None
        seen = [self.transform.for_mllm(*pair) for pair in zip(originals, cut, strict=True)]
        pixels: torch.Tensor = self.image_processor(seen, return_tensors="pt")["pixel_values"]
        return pixels

    def _row(self, example: HasTexts) -> PromptRow:
        try:
            return self.prompt.training_row(example.instruction, example.expressive_instruction or "")
        except ValueError as error:
            raise DataError(f"{example.sample_id}: {error}") from error


def _sources(examples: Sequence[EditExample]) -> list[Image.Image]:
    return [example.source for example in examples]


def _stack(images: list[Image.Image]) -> torch.Tensor:
    """``(B, 3, H, W)`` in [-1, 1]."""
    return to_signed(torch.stack([pil_to_unit(image) for image in images]))


def _require_target(example: EditExample) -> None:
    if example.target is None:
        raise DataError(f"{example.sample_id}: training needs a target image, the data set has none for it")


def _require_expressive(example: HasTexts, *, needs_expressive: bool) -> None:
    if needs_expressive and example.expressive_instruction is None:
        raise DataError(
            f"{example.sample_id}: training needs an expressive instruction, the data set has none for it; add what "
            "the result looks like, in words"
        )
