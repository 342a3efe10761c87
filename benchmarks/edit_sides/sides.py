"""The plain edit, the plain edit with a switch on, and ours: same weights, picture, words and noise."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from reference_step import MAX_NEW_TOKENS, Written, Yardstick, plain_parts
from step_sides.case import INSTRUCTION, Case, made_up_example, make_case
from step_sides.sides import Switched
from torch import Tensor, nn

from mgie_lit.config.compose import compose_config
from mgie_lit.editor import Editor
from mgie_lit.functional.images import pil_to_unit, unit_to_pil
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.key_values import CACHE_ARGUMENT
from mgie_lit.models.layout import lay_for_editing
from mgie_lit.sampling.edit import SamplingOptions, edit_images

SCALES = (7.5, 1.5)  # of text and image, the released code's
SEED = 5
# About as long as the expressive instructions that MGIE learns from (arXiv:2309.17102, section 4.1), and no three words
# twice, which the released code would not write.
WORDS = (
    "the photo would be brighter , with more light on the trees and a clear blue sky above them ; colours are warm and "
    "every shadow turns softer , so that small details come out ."
)
ANSWER_TOKENS = 43  # LLaMA's tokenizer takes about 1.3 a word; the small one that stands in for it takes 62 for these
LAID = "matrices column by column"
SWITCHES = (
    "no idle layers of the tower",
    "attention kernels",
    "last layer's states only",
    "scores of the last word only",
    "visual tokens in one pass",
    "norms in one operation",
    LAID,
)


@dataclass
class EditCase:
    """What both sides edit."""

    case: Case
    image: Image.Image
    prompt: list[int]
    words: list[int]  # what the language model writes, up to and with the end token
    latents: Tensor  # (1, C, h, w) standard normal

    @property
    def guide(self) -> MLLMGuide:
        """Ours."""
        return cast("MLLMGuide", self.editor.guide)

    @cached_property
    def editor(self) -> Editor:
        """Ours, as it edits: a copy of what is laid otherwise, so that the plain edit's weights stay as they are."""
        shared = self.case.editor
        guide, unet = copy.deepcopy(shared.guide), copy.deepcopy(shared.unet)
        editor = Editor(guide, shared.autoencoder, unet, shared.scheduler, source_scale=shared.source_scale).eval()
        lay_for_editing(editor)
        return editor


class Dictated(nn.Module):
    """A head of scores that computes them and then prefers the words that it is told, one a call.

    Args:
        head: The language model's own.
        words: Ids; after the last of them it starts anew.
    """

    def __init__(self, head: nn.Module, words: Sequence[int]) -> None:
        super().__init__()
        self.head, self.words, self.said = head, list(words), 0

    def forward(self, states: Tensor) -> Tensor:
        """Scores of all words, ``(..., V)``; the last position's are those of the next word."""
        scores: Tensor = self.head(states)
        scores.reshape(-1, scores.shape[-1])[-1, self.words[self.said % len(self.words)]] = torch.finfo(
            scores.dtype
        ).max
        self.said += 1
        return scores


class SwitchedEdit(Switched):
    """The plain edit with some switches on.

    Args:
        case: Its parts are used.
        on: Names of ``SWITCHES``.
    """

    def __init__(self, case: Case, on: Sequence[str]) -> None:
        super().__init__(case.editor, set(on), case.cached)

    @torch.no_grad()
    def write(self, prompt_ids: Sequence[int], pixels: Tensor) -> Written:
        """As the plain one, but for the switches."""
        ids, kept = list(prompt_ids), []
        device = self.unet.device
        keeps_all = "last layer's states only" not in self.on
        with self._attention(self.llm, self.tower), plain_parts(self.plain_kinds, self.llm):
            embeddings, cache = self._spliced(torch.tensor([ids], device=device), pixels), None
            while len(ids) < len(prompt_ids) + MAX_NEW_TOKENS:
                outputs = self.llm.model(
                    inputs_embeds=embeddings, **{CACHE_ARGUMENT: cache}, use_cache=True, output_hidden_states=keeps_all
                )
                kept.append(outputs.hidden_states if keeps_all else (outputs.last_hidden_state,))
                cache = outputs[CACHE_ARGUMENT]
                if len(embeddings[0]) == len(self.visual_ids):  # they were read at once
                    ids += [*self.visual_ids[1:], self.end_id]
                    break
                states = outputs.last_hidden_state
                ids.append(self._next(states[:, -1:] if "scores of the last word only" in self.on else states))
                if ids[-1] == self.end_id:
                    break
                at_once = "visual tokens in one pass" in self.on and ids[-1] == self.visual_ids[0]
                new = self.visual_ids if at_once else ids[-1:]
                embeddings = self.llm.model.embed_tokens(torch.tensor([new], device=device))
        return Written(ids, kept)

    def _next(self, states: Tensor) -> int:
        return int(self.llm.lm_head(states)[0, -1].float().argmax())


def make_edit_case(size: str) -> EditCase:
    """Random weights and a made-up picture of the size that needs no scaling.

    Args:
        size: Option of ``size``.
    """
    side = int(compose_config("train", [f"size={size}"]).size.resolution)
    return edit_case(make_case(size, 1, "cpu"), side)


def edit_case(case: Case, side: int) -> EditCase:
    """A made-up picture for an editor, which is put into eval mode.

    Args:
        case: Its parts are used.
        side: Of the picture, px.
    """
    editor = case.editor.eval()
    guide = cast("MLLMGuide", editor.guide)
    image = made_up_example(0, side).source
    words = (
        guide.prompt.encode(WORDS)[:ANSWER_TOKENS]
        + guide.prompt.visual_ids
        + [int(guide.prompt.tokenizer.eos_token_id)]
    )
    shape = editor.latent_shape(image.height, image.width)
    latents = torch.randn(1, *shape, generator=torch.Generator().manual_seed(SEED))
    return EditCase(case, image, guide.prompt.prompt_ids(INSTRUCTION), words, latents)


@contextmanager
def dictated(editor: Editor, words: Sequence[int]) -> Iterator[None]:
    """Let the language model of an editor write these words."""
    llm: Any = cast("MLLMGuide", editor.guide).mllm.language_model
    head = llm.lm_head
    llm.lm_head = Dictated(head, words)
    try:
        yield
    finally:
        llm.lm_head = head


def plain_text(edit: EditCase, on: Sequence[str] = ()) -> tuple[Tensor, Tensor]:
    """Condition and null condition as the released code makes them, with some switches on."""
    editor = edit.editor if LAID in on else edit.case.editor
    yardstick = SwitchedEdit(replace(edit.case, editor=editor), on) if on else Yardstick(editor)
    pixels = cast("MLLMGuide", editor.guide).pixels([edit.image])
    assert pixels is not None
    with dictated(editor, edit.words):
        written = yardstick.write(edit.prompt, pixels)
    if written.ids != edit.prompt + edit.words:
        raise SystemExit("the plain side did not write what it was told; a word of WORDS is banned")
    return yardstick.condition(written)


def our_text(
    edit: EditCase, *, instruction: str = INSTRUCTION, memory: ImageMemory | None = None
) -> tuple[Tensor, Tensor]:
    """The same by our guide, with what it remembers of images."""
    edit.guide.memory = memory
    with dictated(edit.editor, edit.words):
        condition = edit.guide.condition([edit.image], [instruction])
    edit.guide.memory = None
    return condition.text, condition.null


def plain_edit(edit: EditCase, steps: int) -> Image.Image:
    """Picture to picture as the released code does it."""
    source = pil_to_unit(edit.image)[None] * 2 - 1
    text, null = plain_text(edit)
    yardstick = Yardstick(edit.case.editor)
    painted = yardstick.paint(source, text, null, edit.latents, num_steps=steps, guidance=SCALES)
    return unit_to_pil(painted[0])


def our_options(edit: EditCase, steps: int) -> SamplingOptions:
    """Of a plain edit."""
    return SamplingOptions(
        resolution=edit.image.width,
        num_inference_steps=steps,
        guidance_scale=SCALES[0],
        image_guidance_scale=SCALES[1],
    )


def our_edit(edit: EditCase, options: SamplingOptions) -> Image.Image:
    """Picture to picture as we do it."""
    with dictated(edit.editor, edit.words):
        (edited,) = edit_images(
            edit.editor,
            [edit.image],
            [INSTRUCTION],
            options=options,
            generators=[torch.Generator()],
            latents=edit.latents,
        )
    return edited.image


def levels_apart(one: Image.Image, other: Image.Image) -> int:
    """Largest difference of a level, of 255."""
    return int(np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int)).max())
