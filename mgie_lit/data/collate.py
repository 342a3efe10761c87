"""Examples -> a batch of tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from PIL import Image
from torch.nn.utils.rnn import pad_sequence

from mgie_lit.errors import DataError
from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.functional.images import pil_to_unit, to_signed
from mgie_lit.prompts import EditPrompt, PromptRow
from mgie_lit.types import EditBatch, EditExample
from mgie_lit.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    from transformers.image_processing_utils import BaseImageProcessor

    from mgie_lit.data.transforms import PairTransform, TwoStepTransform


class EditCollator:
    """Crops both images the same way, builds the conversation and finds where the visual tokens stand.

    Args:
        prompt: Builds ids and labels.
        image_processor: RGB images -> pixels of the vision tower.
        transform: The geometry, the same for source and target.
        faults: Which faults of the released code are kept.
    """

    def __init__(
        self,
        prompt: EditPrompt,
        image_processor: BaseImageProcessor,
        transform: PairTransform | TwoStepTransform,
        *,
        faults: Faults = NO_FAULTS,
    ) -> None:
        self.prompt = prompt
        self.image_processor = image_processor
        self.transform = transform
        self.faults = faults

    def __call__(self, examples: Sequence[EditExample]) -> EditBatch:
        """A batch of examples that all have a target and an expressive instruction.

        Args:
            examples: Read from a data set, pictures of any size.

        Returns:
            The batch in the examples' order; ids and labels are padded on the right.

        Raises:
            DataError: One lacks its target or expressive instruction, or its instruction is too long; the message gives
                its id.
        """
        for example in examples:
            _require_labels(example)
        cut = [self.transform(example) for example in examples]
        seen = [self.transform.for_mllm(*pair) for pair in zip(_sources(examples), _sources(cut), strict=True)]
        rows = [self._row(example) for example in cut]
        lengths = torch.tensor([len(row.input_ids) for row in rows])
        pad_id = int(self.prompt.tokenizer.pad_token_id)
        input_ids = pad_sequence([torch.tensor(row.input_ids) for row in rows], True, pad_id)  # (B, S)
        is_token = torch.arange(input_ids.shape[1]) < lengths[:, None]
        return EditBatch(
            sample_ids=[example.sample_id for example in cut],
            instructions=[example.instruction for example in cut],
            expressive_instructions=[str(example.expressive_instruction) for example in cut],
            source=_stack(_sources(cut)),
            target=_stack([example.target for example in cut if example.target is not None]),
            mllm_pixels=self.image_processor(seen, return_tensors="pt")["pixel_values"],
            input_ids=input_ids,
            attention_mask=input_ids != pad_id if self.faults.mask_unknown_tokens else is_token,
            labels=pad_sequence([torch.tensor(row.labels) for row in rows], True, IGNORE_INDEX),
            visual_token_start=torch.tensor([row.visual_token_start for row in rows]),
        )

    def _row(self, example: EditExample) -> PromptRow:
        try:
            return self.prompt.training_row(example.instruction, str(example.expressive_instruction))
        except ValueError as error:
            raise DataError(f"{example.sample_id}: {error}") from error


def _sources(examples: Sequence[EditExample]) -> list[Image.Image]:
    return [example.source for example in examples]


def _stack(images: list[Image.Image]) -> torch.Tensor:
    """``(B, 3, H, W)`` in [-1, 1]."""
    return to_signed(torch.stack([pil_to_unit(image) for image in images]))


def _require_labels(example: EditExample) -> None:
    if example.target is None:
        raise DataError(f"{example.sample_id}: training needs a target image, the data set has none for it")
    if example.expressive_instruction is None:
        raise DataError(
            f"{example.sample_id}: training needs an expressive instruction, the data set has none for it; add what "
            "the result looks like, in words"
        )
