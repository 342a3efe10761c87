"""An MLLM in conversation: it reads prompts, writes expressive instructions, and reads the visual tokens after them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from mgie_lit.faults import NO_FAULTS, Faults
from mgie_lit.guides.memory import ImageMemory, Images
from mgie_lit.models.conversation import NO_ID, Conversation
from mgie_lit.models.mllm import MLLM
from mgie_lit.prompts import NO_VISUAL_TOKENS, EditPrompt

if TYPE_CHECKING:
    from PIL import Image
    from transformers.image_processing_utils import BaseImageProcessor

    from mgie_lit.models.key_values import Prefix


class MLLMWriter(nn.Module):
    """An MLLM that writes expressive instructions, and has states for the visual tokens behind them.

    Args:
        mllm: Vision tower, projector and language model.
        prompt: Builds the conversation; its image patches are the vision tower's.
        image_processor: RGB images -> pixels of the vision tower.
        max_new_tokens: Longest expressive instruction in tokens; 96 in ml-mgie.
        no_repeat_ngram: No n-gram of this length is written twice; 0 = off.
        memory: Keeps what was made of images when editing, for further instructions on them; None = nothing is kept.
        faults: Which faults of the released code are kept.

    Raises:
        ValueError: Vocabulary or image patches of MLLM and prompt do not fit together.
    """

    def __init__(
        self,
        mllm: MLLM,
        prompt: EditPrompt,
        image_processor: BaseImageProcessor,
        *,
        max_new_tokens: int = 96,
        no_repeat_ngram: int = 3,
        memory: ImageMemory | None = None,
        faults: Faults = NO_FAULTS,
    ) -> None:
        super().__init__()
        _check_prompt(mllm, prompt)
        self.mllm = mllm
        self.prompt = prompt
        self.image_processor = image_processor
        self.max_new_tokens = max_new_tokens
        self.no_repeat_ngram = no_repeat_ngram
        self.memory = memory
        self.faults = faults

    @property
    def sees_image(self) -> bool:
        """Whether the MLLM has eyes (MGIE) or not (LGIE)."""
        return self.mllm.vision_tower is not None

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
        written = self.write(self._ask(sources, instructions))
        return [self.prompt.decode(text) for text in written]

    def pixels(self, sources: Sequence[Image.Image]) -> Tensor | None:
        """Pixels for the vision tower, ``(B, 3, P, P)``; None for a guide without eyes."""
        if self.mllm.vision_tower is None:
            return None
        pixels: Tensor = self.image_processor(list(sources), return_tensors="pt")["pixel_values"]
        return pixels.to(self.mllm.device)

    def look(self, sources: Sequence[Image.Image]) -> Images:
        """The different ones among RGB images, as the vision tower takes them."""
        return Images.of(self.pixels(sources), len(sources))

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
        input_ids, is_real = _pad_left(rests, self._pad_id, self.mllm.device)
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
            before=_pad_left(conversation.prompts, NO_ID, self.mllm.device)[0]
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

    def _ask(self, sources: Sequence[Image.Image], instructions: Sequence[str]) -> Conversation:
        prompts = [self.prompt.prompt_ids(instruction) for instruction in instructions]
        return self.begin(prompts, self.look(sources))

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


def _check_prompt(mllm: MLLM, prompt: EditPrompt) -> None:
    vocab_size = len(mllm.word_embeddings)
    if len(prompt.tokenizer) > vocab_size:
        raise ValueError(f"mllm: expected a vocabulary of at least {len(prompt.tokenizer)} tokens, got {vocab_size}")
    patches = 0
    if mllm.vision_tower is not None:
        vision = mllm.vision_tower.config
        patches = (cast("int", vision.image_size) // cast("int", vision.patch_size)) ** 2
        if mllm.image_patch_id != prompt.image_patch_id:
            raise ValueError(f"mllm.image_patch_id: expected {prompt.image_patch_id}, got {mllm.image_patch_id}")
    if prompt.num_image_patches != patches:
        raise ValueError(f"prompt.num_image_patches: expected the tower's {patches}, got {prompt.num_image_patches}")


def _pad_left(rows: list[list[int]], pad_id: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Ids ``(B, S)`` and mask of rows of unequal length, which end together."""
    length = max(map(len, rows))
    ids = torch.full((len(rows), length), pad_id)
    mask = torch.zeros((len(rows), length), dtype=torch.bool)
    for index, row in enumerate(rows):
        place = slice(length - len(row), None)
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
