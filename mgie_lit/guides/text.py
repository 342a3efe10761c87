"""The guide of InstructPix2Pix and the systems after it: a text encoder reads instructions or expressive ones."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor, nn

from mgie_lit.errors import DataError
from mgie_lit.prompts import NO_VISUAL_TOKENS, PromptRow
from mgie_lit.types import Condition, EditBatch, GuideLosses
from mgie_lit.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    from PIL import Image
    from transformers import CLIPTextModel, PreTrainedTokenizerBase

    from mgie_lit.guides import Writer
    from mgie_lit.types import EditExample

LOG = logging.getLogger(__name__)

Reads = Literal["instruction", "expressive_instruction"]


class TextPrompt:
    """A text as the ids of a text encoder: begin, words, end, padding, always of one length (as CLIP's texts are).

    Args:
        tokenizer: With tokens for begin, end and padding.
        max_length: Length of every row in tokens, at least 3; longer texts are cut.
        reads: Which text of an example is encoded.

    Raises:
        ValueError: A special token is missing, the length leaves no room for words, or ``reads`` is unknown.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int, reads: Reads) -> None:
        for kind in ("bos", "eos", "pad"):
            if getattr(tokenizer, f"{kind}_token_id") is None:
                raise ValueError(f"text_tokenizer: expected one with a {kind}_token, got one without")
        if max_length < 3:
            raise ValueError(f"text_encoder.max_position_embeddings: expected at least 3 tokens, got {max_length}")
        if reads not in get_args(Reads):
            raise ValueError(f"reads: expected one of {', '.join(get_args(Reads))}, got {reads!r}")
        self.tokenizer = tokenizer
        self.max_length = max_length
        self.reads = reads
        self.num_cut = 0  # texts of this process that were too long

    @property
    def needs_expressive(self) -> bool:
        """Whether a row can not be made without an expressive instruction."""
        return self.reads == "expressive_instruction"

    def ids(self, text: str) -> list[int]:
        """Ids of a text, ``max_length`` of them; the first text that is cut is logged, all are counted."""
        words = self.tokenizer.encode(text, add_special_tokens=False, verbose=False)
        room = self.max_length - 2
        if len(words) > room:
            self._count_cut(text, len(words), room)
        row = [self.tokenizer.bos_token_id, *words[:room], self.tokenizer.eos_token_id]
        return row + [self.tokenizer.pad_token_id] * (self.max_length - len(row))

    def training_row(self, instruction: str, expressive_instruction: str) -> PromptRow:
        """Ids of the text that is read; nothing of it is a label.

        Args:
            instruction: The user's words.
            expressive_instruction: What they mean; "" where there is none.

        Returns:
            The row, ``max_length`` ids.
        """
        ids = self.ids(expressive_instruction if self.needs_expressive else instruction)
        return PromptRow(ids, [IGNORE_INDEX] * len(ids), NO_VISUAL_TOKENS)

    def _count_cut(self, text: str, length: int, room: int) -> None:
        self.num_cut += 1
        if self.num_cut == 1:
            LOG.warning(
                "a text of %d tokens is cut to %d, the longest that the text encoder reads (%r); further ones are "
                "only counted",
                *(length, room, f"{text[:60]}..."),
            )


class TextGuide(nn.Module):
    """A text encoder in front of the UNet (InstructPix2Pix, arXiv:2211.09800, section 3.2).

    Args:
        text_encoder: CLIP's kind; all of its states are the condition.
        text_tokenizer: Of the encoder.
        reads: The instruction (InstructPix2Pix), or the expressive instruction (FT, FZ, gold): in training that of the
            data set; at inference the writer's, or the data set's where there is no writer.

    Raises:
        ValueError: The tokenizer has more tokens than the encoder knows, or lacks one it needs.
    """

    sees_image = False

    def __init__(
        self, text_encoder: CLIPTextModel, text_tokenizer: PreTrainedTokenizerBase, *, reads: Reads = "instruction"
    ) -> None:
        super().__init__()
        config = text_encoder.config
        if len(text_tokenizer) > config.vocab_size:
            raise ValueError(
                f"text_encoder.vocab_size: expected at least the tokenizer's {len(text_tokenizer)} tokens, got "
                f"{config.vocab_size}"
            )
        self.text_encoder = text_encoder
        self.prompt = TextPrompt(text_tokenizer, max_length=config.max_position_embeddings, reads=reads)
        self.writer: Writer | None = None

    def losses(self, batch: EditBatch) -> GuideLosses:
        """Condition of a batch and of the empty text, in one pass; there is no loss of the guide's own."""
        null = torch.tensor([self.prompt.ids("")], device=batch.input_ids.device)
        states = self._encode(torch.cat([batch.input_ids, null]))  # (B + 1, S, D)
        return GuideLosses(text=states[:-1], null=states[-1:], loss_lm=None)

    @torch.no_grad()
    def condition(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> Condition:
        """Encode what there is to do.

        Args:
            sources: RGB images of any size; only a writer looks at them.
            instructions: One for every image; a writer makes expressive instructions of them, without one they are
                encoded as they are.

        Returns:
            Condition of each row, that of the empty text, and what was encoded.
        """
        texts = list(instructions) if self.writer is None else self.writer.express(sources, instructions)
        ids = torch.tensor([self.prompt.ids(text) for text in (*texts, "")], device=self.text_encoder.device)
        states = self._encode(ids)  # (B + 1, S, D)
        return Condition(text=states[:-1], null=states[-1:], expressive_instructions=texts)

    def words(self, example: EditExample) -> str:
        """What this guide is asked with for an example of a data set.

        Args:
            example: Its target is not looked at.

        Returns:
            The instruction, or the expressive instruction where the guide reads that and has no writer.

        Raises:
            DataError: The example has no expressive instruction.
        """
        if self.writer is not None or not self.prompt.needs_expressive:
            return example.instruction
        if example.expressive_instruction is None:
            raise DataError(
                f"{example.sample_id}: this system reads an expressive instruction, the data set has none for it; "
                "give data.expressive=<file>, or let a model write it with model.writer=<run>"
            )
        return example.expressive_instruction

    def _encode(self, ids: Tensor) -> Tensor:
        """``(B, S)`` ids -> ``(B, S, D)`` states after the final norm; padding is read too, as in Stable Diffusion."""
        states: Tensor = self.text_encoder(input_ids=ids).last_hidden_state
        return states
