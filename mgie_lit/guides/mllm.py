"""The guide of MGIE and LGIE: an MLLM writes what the result looks like, an edit head turns that into a condition."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.functional.losses import alignment_loss, chunked_instruction_loss
from mgie_lit.functional.text_code import bag_of_tokens_code, random_token_codes
from mgie_lit.guides.memory import ImageMemory, Images
from mgie_lit.models.conversation import NO_ID, Conversation
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.prompts import NO_VISUAL_TOKENS, EditPrompt
from mgie_lit.types import Condition, EditBatch, GuideLosses
from mgie_lit.vocabulary import IGNORE_INDEX

if TYPE_CHECKING:
    from PIL import Image
    from transformers.image_processing_utils import BaseImageProcessor

    from mgie_lit.models.key_values import Prefix
    from mgie_lit.types import EditExample

TrainEmbeddings = Literal["all", "new_rows"]
LABEL_CHUNK = 1024  # labels scored at once: 125 MiB of float32 scores with LLaMA's vocabulary
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
        super().__init__()
        _check_sizes(mllm, edit_head, prompt)
        _check_train_embeddings(train_embeddings, faults)
        self.mllm = mllm
        self.edit_head = edit_head
        self.prompt = prompt
        self.image_processor = image_processor
        self.max_new_tokens = max_new_tokens
        self.no_repeat_ngram = no_repeat_ngram
        self.train_embeddings = train_embeddings
        self.memory = memory
        self.faults = faults
        size = (len(mllm.word_embeddings), edit_head.config["output_dim"])
        codes = random_token_codes(*size, seed=ALIGNMENT_SEED) if align else None
        self.register_buffer("token_codes", codes, persistent=False)

    @property
    def sees_image(self) -> bool:
        """Whether the MLLM has eyes (MGIE) or not (LGIE)."""
        return self.mllm.vision_tower is not None

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
        conversation = self.begin(self._prompts(instructions), self.look(sources))
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

    @torch.no_grad()
    def express(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> list[str]:
        """Expressive instructions alone, for guides that read them.

        Args:
            sources: RGB images of any size.
            instructions: One for every image.

        Returns:
            What is written for each, without special tokens.

        Raises:
            ConfigError: An instruction is longer than the prompt's ``max_length`` allows.
        """
        written = self.write(self.begin(self._prompts(instructions), self.look(sources)))
        return [self.prompt.decode(text) for text in written]

    @torch.no_grad()
    def begin(self, prompts: list[list[int]], images: Images) -> Conversation:
        """Let the MLLM read the prompts; what several begin with, the same image too, is read once.

        Args:
            prompts: Ids of each row, as ``EditPrompt.prompt_ids`` gives them.
            images: Of the rows, from ``look``.

        Returns:
            A conversation in which the MLLM has to answer.
        """
        opening = self.prompt.opening_ids
        num_shared = min(min(_num_common(opening, prompt), len(prompt) - 1) for prompt in prompts)
        rests = [prompt[num_shared:] for prompt in prompts]
        input_ids, is_real = _pad(rests, self._pad_id, left=True, device=self.mllm.device)
        prefixes, vision_states = self._beginnings(images)
        conversation = Conversation(
            self.mllm,
            prompts,
            [prefixes[image] for image in images.of_row],
            num_shared,
            room=self.max_new_tokens + len(self.prompt.visual_ids),
            keeps_states=self.faults.free_visual_tokens,
        )
        seen = None if vision_states is None else torch.stack([vision_states[image] for image in images.of_row])
        embeddings = self.mllm.embed(input_ids, vision_states=seen)  # (B, S, D)
        conversation.read(embeddings, is_real if _are_uneven(rests) else None, only_last=True)
        return conversation

    @torch.no_grad()
    def write(self, conversation: Conversation) -> list[list[int]]:
        """Greedy answers of the MLLM as ids.

        Args:
            conversation: From ``begin``; it goes on.

        Returns:
            The expressive instructions, without visual and end tokens; with ``faults.free_visual_tokens`` everything
            that was written, up to and with the end token.
        """
        is_free, end_id = self.faults.free_visual_tokens, int(self.prompt.tokenizer.eos_token_id)
        stop_ids = [end_id] if is_free else [self.prompt.visual_ids[0], end_id]
        new_ids = conversation.write(
            stop_ids=stop_ids,
            # the image's own ids would be taken for a second image
            never_ids=[] if is_free else sorted(set(self.prompt.image_ids)),
            pad_id=self._pad_id,
            max_new_tokens=self.max_new_tokens,
            no_repeat_ngram=self.no_repeat_ngram,
            before=_pad(conversation.prompts, NO_ID, left=True, device=self.mllm.device)[0]
            if self.faults.ban_prompt_ngrams
            else None,
        )
        return [_until(row, stop_ids, with_stop=is_free) for row in new_ids.tolist()]

    @torch.no_grad()
    def read(self, conversation: Conversation, written: list[list[int]]) -> Tensor:
        """States that predict the visual tokens, ``(B, V, D)``.

        Args:
            conversation: After ``write``.
            written: What ``write`` gave; the MLLM now reads the visual tokens after it, all in one pass, unless it had
                to write them itself.

        Returns:
            The states; always those of the visual tokens but with ``faults.free_visual_tokens``, which takes the last
            but one where there are none.
        """
        if self.faults.free_visual_tokens:
            rows = [prompt + answer for prompt, answer in zip(conversation.prompts, written, strict=True)]
            starts = torch.tensor([_find(self.prompt.visual_ids[0], row) for row in rows], device=self.mllm.device)
            lengths = torch.tensor([len(row) - 1 for row in rows], device=self.mllm.device)
            return self._visual_states(conversation.states_in_order(), starts, lengths)
        # each state predicts what comes next: those of the last word and of all visual tokens but the last one
        conversation.take_back([len(text) - 1 for text in written])
        last = [(prompt + text)[-1:] for prompt, text in zip(conversation.prompts, written, strict=True)]
        input_ids = torch.tensor([ids + self.prompt.visual_ids[:-1] for ids in last], device=self.mllm.device)
        return conversation.read(self.mllm.embed(input_ids))

    def pixels(self, sources: Sequence[Image.Image]) -> Tensor | None:
        """Pixels for the vision tower, ``(B, 3, P, P)``; None for a guide without eyes."""
        if self.mllm.vision_tower is None:
            return None
        pixels: Tensor = self.image_processor(list(sources), return_tensors="pt")["pixel_values"]
        return pixels.to(self.mllm.device)

    def look(self, sources: Sequence[Image.Image]) -> Images:
        """The different ones among RGB images, as the vision tower takes them."""
        return Images.of(self.pixels(sources), len(sources))

    def _prompts(self, instructions: Sequence[str]) -> list[list[int]]:
        return [self.prompt.prompt_ids(instruction) for instruction in instructions]

    def _beginnings(self, images: Images) -> tuple[list[Prefix], list[Tensor] | None]:
        """What is kept of the prompts' opening for each image, and the vision states that come after it, ``(N, E)``."""
        opening = self.prompt.opening_ids
        has_states = self.faults.free_visual_tokens  # these may be read from anywhere
        is_in_opening = self.prompt.image_patch_id in opening

        def see(places: list[int]) -> Tensor:
            assert images.pixels is not None
            return self.mllm.vision_states(images.pixels[places])  # (U, N, E)

        def read(places: list[int]) -> list[Prefix]:
            ids = torch.tensor(opening, device=self.mllm.device).expand(len(places), -1)
            embeddings = self.mllm.embed(ids, vision_states=see(places) if is_in_opening else None)
            return self.mllm.prefix(embeddings, has_states=has_states)

        recall = self._recall()
        keys = images.keys if is_in_opening else [""]
        prefixes = recall([("opening", has_states, key, *opening) for key in keys], read)
        if is_in_opening:
            return prefixes, None
        vision_states = None if images.pixels is None else recall([("image", key) for key in images.keys], see)
        return prefixes * len(images.keys), vision_states

    def _recall(self) -> Callable[[Sequence[Any], Callable[[list[int]], Any]], list[Any]]:
        """How values are made: from the memory, if there is one and the weights stay as they are."""
        if self.memory is None or self.training:
            return lambda keys, make: list(make(list(range(len(keys)))))
        self.memory.check(self.mllm)
        return self.memory.recall

    @property
    def _pad_id(self) -> int:
        return int(self.prompt.tokenizer.pad_token_id)

    def _visual_states(self, hidden: Tensor, visual_token_start: Tensor, lengths: Tensor | int | None = None) -> Tensor:
        """States that *predict* the visual tokens, positions start-1 .. start+V-2 (ml-mgie), ``(B, V, D)``."""
        num_visual_tokens = len(self.prompt.visual_ids)
        first = visual_token_start - 1  # (B,)
        if self.faults.clamp_slice:
            last = (hidden.shape[1] if lengths is None else lengths) - num_visual_tokens - 1
            is_missing = visual_token_start == NO_VISUAL_TOKENS
            first = torch.where(is_missing, last, torch.minimum(first, torch.as_tensor(last, device=first.device)))
        offsets = torch.arange(num_visual_tokens, device=hidden.device)  # (V,)
        positions = first[:, None] + offsets  # (B, V)
        return hidden.gather(1, positions[..., None].expand(-1, -1, hidden.shape[-1]))


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


def _check_train_embeddings(which: str, faults: Faults) -> None:
    if which not in get_args(TrainEmbeddings):
        raise ValueError(f"train_embeddings: expected one of {', '.join(get_args(TrainEmbeddings))}, got {which!r}")
    if which == "new_rows" and (faults.cut_visual_tokens or faults.ignore_odd_texts or faults.clamp_slice):
        raise ValueError(
            "train_embeddings: new_rows needs the visual tokens at the end of every row; expected "
            "faults.cut_visual_tokens, ignore_odd_texts and clamp_slice off (preset=fixed), or train_embeddings=all"
        )


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


def _num_common(first: list[int], second: list[int]) -> int:
    """How many ids two rows begin with in common."""
    pairs = enumerate(zip(first, second, strict=False))
    return next((place for place, (one, other) in pairs if one != other), min(len(first), len(second)))


def _are_uneven(rows: list[list[int]]) -> bool:
    return len(set(map(len, rows))) > 1


def _until(ids: list[int], stop_ids: list[int], *, with_stop: bool) -> list[int]:
    """The ids before the first stop id, or up to and with it."""
    end = next((position for position, index in enumerate(ids) if index in stop_ids), len(ids))
    return ids[: end + with_stop]


def _find(index: int, ids: list[int]) -> int:
    """Position of the first such id, or ``NO_VISUAL_TOKENS``."""
    return ids.index(index) if index in ids else NO_VISUAL_TOKENS
