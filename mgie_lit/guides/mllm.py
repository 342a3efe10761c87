"""The guide of MGIE and LGIE: an MLLM writes what the result looks like, an edit head turns that into a condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, get_args

import torch
from torch import Tensor

from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.functional.losses import alignment_loss, chunked_instruction_loss
from mgie_lit.functional.text_code import bag_of_tokens_code, random_token_codes
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.guides.writing import MLLMWriter
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.prompts import EditPrompt
from mgie_lit.types import Condition, EditBatch, GuideLosses
from mgie_lit.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    from PIL import Image
    from transformers.image_processing_utils import BaseImageProcessor

    from mgie_lit.types import EditExample

TrainEmbeddings = Literal["all", "new_rows"]
LABEL_CHUNK = 1024  # labels scored at once: 125 MiB of float32 scores with LLaMA's vocabulary
ALIGNMENT_SEED = 8191  # of the fixed token codes; any number does, a change makes old runs impossible to resume


class MLLMGuide(MLLMWriter):
    """Expressive instruction and visual tokens by an MLLM, condition by an edit head (arXiv:2309.17102, section 3).

    Args:
        mllm: Vision tower, projector and language model.
        edit_head: Takes the MLLM's width.
        prompt: Builds the conversation; its image patches are the vision tower's.
        image_processor: RGB images -> pixels of the vision tower.
        max_new_tokens: Longest expressive instruction in tokens; 96 in ml-mgie.
        no_repeat_ngram: No n-gram of this length is written twice; 0 = off.
        train_embeddings: ``all`` rows of the table, as ml-mgie, or ``new_rows``, those of the visual tokens: then all
            that comes before ``[IMG0]`` runs without gradient, the full graph but for the other rows' gradients.
        align: Also give ``loss_align``: the condition against a fixed random code of the expressive instruction, which
            stands in for the text encoder that a pretrained UNet was trained with.
        memory: Keeps what was made of images when editing, for further instructions on them; None = nothing is kept.
        faults: Which faults of the released code are kept.

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
        train_embeddings: TrainEmbeddings = "all",
        align: bool = False,
        memory: ImageMemory | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__(
            mllm,
            prompt,
            image_processor,
            max_new_tokens=max_new_tokens,
            no_repeat_ngram=no_repeat_ngram,
            memory=memory,
            faults=faults,
        )
        _check_width(mllm, edit_head)
        _check_train_embeddings(train_embeddings, faults)
        self.edit_head = edit_head
        self.train_embeddings = train_embeddings
        size = (len(mllm.word_embeddings), edit_head.config["output_dim"])
        codes = random_token_codes(*size, seed=ALIGNMENT_SEED) if align else None
        self.register_buffer("token_codes", codes, persistent=False)

    @property
    def visual_embeddings(self) -> Tensor:
        """Word embeddings of the visual tokens, ``(V, D)``."""
        ids = self.prompt.visual_ids
        return self.mllm.word_embeddings[ids[0] : ids[-1] + 1]

    def losses(self, batch: EditBatch) -> GuideLosses:
        """Teacher-forced pass over a batch: condition, null condition, instruction loss (and alignment loss)."""
        hidden, rows = self._hidden_states(batch)  # (B, S, D), (V, D)
        states, labels = _labelled(hidden, batch)  # (N, D), (N,)
        text = self.edit_head(self._visual_states(hidden, batch.visual_token_start), rows)
        return GuideLosses(
            text=text,
            null=self.edit_head.null_condition(rows),
            loss_lm=chunked_instruction_loss(
                states,
                labels,
                self.mllm.logits,
                chunk_size=LABEL_CHUNK,
                num_labels=batch.labels_per_batch,
                nan_without_labels=self.faults.nan_without_labels,
            ),
            loss_align=None if self.token_codes is None else alignment_loss(text, _text_code(batch, self.token_codes)),
        )

    def _hidden_states(self, batch: EditBatch) -> tuple[Tensor, Tensor]:
        """Teacher-forced states, ``(B, S, D)``, and the visual tokens' word embeddings, ``(V, D)``."""
        if self.train_embeddings == "new_rows":
            rows = self.visual_embeddings
            with torch.no_grad():
                embeddings = self.mllm.embed(batch.input_ids, batch.mllm_pixels, batch.vision_states)  # (B, S, D)
            return self.mllm.states_with_new_tail(embeddings, rows, batch.visual_token_start), rows
        # One look-up for both: the gradient of each is as large as the whole table.
        first, num_tokens = self.prompt.visual_ids[0], batch.input_ids.numel()
        visual_ids = torch.arange(first, first + len(self.prompt.visual_ids), device=batch.input_ids.device)
        looked_up = self.mllm.words(torch.cat([batch.input_ids.flatten(), visual_ids]))
        words, rows = looked_up[:num_tokens], looked_up[num_tokens:]
        embeddings = self.mllm.with_image(
            words.view(*batch.input_ids.shape, -1), batch.input_ids, batch.mllm_pixels, batch.vision_states
        )  # (B, S, D)
        # Padding stands on the right, where no token looks; only the released code reads states there.
        mask = batch.attention_mask if self.faults.clamp_slice or self.faults.mask_unknown_tokens else None
        return self.mllm(embeddings, mask), rows

    @torch.no_grad()
    def condition(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> Condition:
        """Write the expressive instructions and go on to the visual tokens' states.

        Args:
            sources: RGB images of any size.
            instructions: One for every image.

        Returns:
            Condition of each row, null condition, and what was written.

        Raises:
            ConfigError: An instruction is longer than the prompt's ``max_length`` allows.
        """
        conversation = self._ask(sources, instructions)
        written = self.write(conversation)
        states = self.read(conversation, written)
        stored = self.edit_head.stored_embeddings
        embeddings = self.visual_embeddings if stored is None else stored
        return Condition(
            text=self.edit_head(states, embeddings),
            null=self.edit_head.null_condition(embeddings),
            expressive_instructions=[self.prompt.decode(text) for text in written],
        )

    def words(self, example: EditExample) -> str:
        """The instruction: what it means is for the MLLM to say."""
        return example.instruction


def _labelled(hidden: Tensor, batch: EditBatch) -> tuple[Tensor, Tensor]:
    """States that predict a label, ``(N, D)``, and the labels ``(N,)``; where these stand is not known, all states."""
    states, labels = hidden[:, :-1].flatten(0, 1), batch.labels[:, 1:].flatten()
    if batch.label_positions is None:
        return states, labels
    return states[batch.label_positions], labels[batch.label_positions]


def _text_code(batch: EditBatch, token_codes: Tensor) -> Tensor:
    """Fixed code of each expressive instruction, ``(B, D)``."""
    positions = torch.arange(batch.labels.shape[1], device=batch.labels.device)
    is_text = (batch.labels != IGNORE_INDEX) & (positions < batch.visual_token_start[:, None])
    return bag_of_tokens_code(batch.input_ids, is_text, token_codes)


def _check_width(mllm: MLLM, edit_head: EditHead) -> None:
    if edit_head.config["input_dim"] != mllm.hidden_dim:
        raise ValueError(
            f"edit_head.input_dim: expected the MLLM's {mllm.hidden_dim}, got {edit_head.config['input_dim']}"
        )


def _check_train_embeddings(which: str, faults: Faults) -> None:
    if which not in get_args(TrainEmbeddings):
        raise ValueError(f"train_embeddings: expected one of {', '.join(get_args(TrainEmbeddings))}, got {which!r}")
    if which == "new_rows" and (faults.cut_visual_tokens or faults.ignore_odd_texts or faults.clamp_slice):
        raise ValueError(
            "train_embeddings: new_rows needs the visual tokens at the end of every row; expected "
            "faults.cut_visual_tokens, ignore_odd_texts and clamp_slice off (preset=fixed), or train_embeddings=all"
        )
