"""The guide of MGIE and LGIE: an MLLM writes what the result looks like, an edit head turns that into a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from mgie_lit.functional.losses import alignment_loss, instruction_loss
from mgie_lit.functional.text_code import bag_of_tokens_code, random_token_codes
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.prompts import EditPrompt
from mgie_lit.types import Condition, EditBatch, GuideLosses
from mgie_lit.vocabulary import IGNORE_INDEX, NUM_VISUAL_TOKENS

if TYPE_CHECKING:
    from PIL import Image
    from transformers.image_processing_utils import BaseImageProcessor

ALIGNMENT_SEED = 8191  # of the fixed token codes; any number does, a change makes old runs impossible to resume


class MLLMGuide(nn.Module):
    """Expressive instruction and visual tokens by an MLLM, condition by an edit head (arXiv:2309.17102, section 3).

    Args:
        mllm: Vision tower, projector and language model.
        edit_head: Takes the MLLM's width.
        prompt: Builds the conversation; its image patches are the vision tower's.
        image_processor: RGB images -> pixels of the vision tower.
        max_new_tokens: Longest expressive instruction in tokens; 96 in ml-mgie.
        no_repeat_ngram: No n-gram of this length is written twice; 0 = off.
        align: Also give ``loss_align``: the condition against a fixed random code of the expressive instruction, which
            stands in for the text encoder that a pretrained UNet was trained with.

    Raises:
        ValueError: Sizes of the parts do not fit together.
    """

    token_codes: Tensor | None  # (vocabulary, D); None where nothing is aligned

    def __init__(
        self,
        mllm: MLLM,
        edit_head: EditHead,
        prompt: EditPrompt,
        image_processor: BaseImageProcessor,
        *,
        max_new_tokens: int = 96,
        no_repeat_ngram: int = 3,
        align: bool = False,
    ) -> None:
        super().__init__()
        _check_sizes(mllm, edit_head, prompt)
        self.mllm = mllm
        self.edit_head = edit_head
        self.prompt = prompt
        self.image_processor = image_processor
        self.max_new_tokens = max_new_tokens
        self.no_repeat_ngram = no_repeat_ngram
        size = (len(mllm.word_embeddings), edit_head.config["output_dim"])
        codes = random_token_codes(*size, seed=ALIGNMENT_SEED) if align else None
        self.register_buffer("token_codes", codes, persistent=False)

    @property
    def visual_embeddings(self) -> Tensor:
        """Word embeddings of ``[IMG0..7]``, ``(V, D)``."""
        first = self.prompt.visual_ids[0]
        return self.mllm.word_embeddings[first : first + NUM_VISUAL_TOKENS]

    def losses(self, batch: EditBatch) -> GuideLosses:
        """Teacher-forced pass over a batch: condition, null condition, instruction loss (and alignment loss)."""
        embeddings = self.mllm.embed(batch.input_ids, batch.mllm_pixels)  # (B, S, D)
        hidden = self.mllm(embeddings, batch.attention_mask)  # (B, S, D)
        logits = self.mllm.logits(hidden[:, :-1]).flatten(0, 1)  # (B (S-1), vocabulary)
        text = self._text_condition(hidden, batch.visual_token_start)
        return GuideLosses(
            text=text,
            null=self.edit_head.null_condition(self.visual_embeddings),
            loss_lm=instruction_loss(logits, batch.labels[:, 1:].flatten()),
            loss_align=None if self.token_codes is None else alignment_loss(text, _text_code(batch, self.token_codes)),
        )

    @torch.no_grad()
    def condition(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> Condition:
        """Write the expressive instructions, then read the visual tokens' states in one more pass.

        Args:
            sources: RGB images of any size.
            instructions: One for every image.

        Returns:
            Condition of each row, null condition, and what was written.

        Raises:
            ConfigError: An instruction is longer than the prompt's ``max_length`` allows.
        """
        prompts = [self.prompt.prompt_ids(instruction) for instruction in instructions]
        pixels = self.pixels(sources)
        written = self._write(prompts, pixels)
        rows = [prompt + text + self.prompt.visual_ids for prompt, text in zip(prompts, written, strict=True)]
        input_ids, attention_mask = _pad(rows, self._pad_id, left=False, device=self.mllm.device)
        starts = torch.tensor([len(row) - NUM_VISUAL_TOKENS for row in rows], device=self.mllm.device)
        hidden = self.mllm(self.mllm.embed(input_ids, pixels), attention_mask)  # (B, S, D)
        return Condition(
            text=self._text_condition(hidden, starts),
            null=self.edit_head.null_condition(self.visual_embeddings),
            expressive_instructions=[self.prompt.decode(text) for text in written],
        )

    def pixels(self, sources: Sequence[Image.Image]) -> Tensor | None:
        """Pixels for the vision tower, ``(B, 3, P, P)``; None for a guide without eyes."""
        if self.mllm.vision_tower is None:
            return None
        pixels: Tensor = self.image_processor(list(sources), return_tensors="pt")["pixel_values"]
        return pixels.to(self.mllm.device)

    @property
    def _pad_id(self) -> int:
        return int(self.prompt.tokenizer.pad_token_id)

    def _write(self, prompts: list[list[int]], pixels: Tensor | None) -> list[list[int]]:
        """Expressive instructions as ids, without the token that ended them."""
        input_ids, attention_mask = _pad(prompts, self._pad_id, left=True, device=self.mllm.device)
        stop_ids = [self.prompt.visual_ids[0], int(self.prompt.tokenizer.eos_token_id)]
        new_ids = self.mllm.generate(
            self.mllm.embed(input_ids, pixels),
            attention_mask,
            stop_ids=stop_ids,
            never_ids=sorted(set(self.prompt.image_ids)),
            pad_id=self._pad_id,
            max_new_tokens=self.max_new_tokens,
            no_repeat_ngram=self.no_repeat_ngram,
        )
        return [_until(row, stop_ids) for row in new_ids.tolist()]

    def _text_condition(self, hidden: Tensor, visual_token_start: Tensor) -> Tensor:
        """Edit head on the states that *predict* the visual tokens: positions start-1 .. start+6 (ml-mgie)."""
        offsets = torch.arange(-1, NUM_VISUAL_TOKENS - 1, device=hidden.device)  # (V,)
        positions = visual_token_start[:, None] + offsets  # (B, V)
        states = hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))  # (B, V, D)
        condition: Tensor = self.edit_head(states, self.visual_embeddings)
        return condition


def _text_code(batch: EditBatch, token_codes: Tensor) -> Tensor:
    """Fixed code of each expressive instruction, ``(B, D)``."""
    positions = torch.arange(batch.labels.shape[1], device=batch.labels.device)
    is_text = (batch.labels != IGNORE_INDEX) & (positions < batch.visual_token_start[:, None])
    return bag_of_tokens_code(batch.input_ids, is_text, token_codes)


def _check_sizes(mllm: MLLM, edit_head: EditHead, prompt: EditPrompt) -> None:
    vocab_size = len(mllm.word_embeddings)
    if len(prompt.tokenizer) > vocab_size:
        raise ValueError(f"mllm: expected a vocabulary of at least {len(prompt.tokenizer)} tokens, got {vocab_size}")
    if edit_head.config["input_dim"] != mllm.hidden_dim:
        raise ValueError(
            f"edit_head.input_dim: expected the MLLM's {mllm.hidden_dim}, got {edit_head.config['input_dim']}"
        )
    patches = 0
    if mllm.vision_tower is not None:
        vision = mllm.vision_tower.config
        patches = (cast("int", vision.image_size) // cast("int", vision.patch_size)) ** 2
        if mllm.image_patch_id != prompt.image_patch_id:
            raise ValueError(f"mllm.image_patch_id: expected {prompt.image_patch_id}, got {mllm.image_patch_id}")
    if prompt.num_image_patches != patches:
        raise ValueError(f"prompt.num_image_patches: expected the tower's {patches}, got {prompt.num_image_patches}")


def _pad(rows: list[list[int]], pad_id: int, *, left: bool, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids ``(B, S)`` and mask of rows of unequal length."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(length - len(row), None) if left else slice(len(row))
        ids[index, place] = torch.tensor(row)
        mask[index, place] = True
    return ids.to(device), mask.to(device)


def _until(ids: list[int], stop_ids: list[int]) -> list[int]:
    """The ids before the first stop id."""
    return ids[: next((position for position, index in enumerate(ids) if index in stop_ids), len(ids))]
