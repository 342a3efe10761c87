"""The plain edit in parts, which say how small its ratio could be."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from reference_step import Yardstick

from edit_sides.sides import EditCase, dictated
from mgie_lit.functional.images import pil_to_unit
from mgie_lit.guides.mllm import MLLMGuide


class Parts:
    """The plain edit in parts; those of the text are told apart by how much is dictated.

    Args:
        edit: What is edited.
    """

    def __init__(self, edit: EditCase) -> None:
        self.edit, self.plain = edit, Yardstick(edit.case.editor)
        guide = cast("MLLMGuide", edit.case.editor.guide)
        end, count = edit.words[-1], len(guide.prompt.visual_ids)
        pixels = guide.pixels([edit.image])
        assert pixels is not None
        self.pixels, self.source = pixels, pil_to_unit(edit.image)[None] * 2 - 1
        with torch.no_grad(), dictated(edit.case.editor, edit.words):
            self.written = self.plain.write(edit.prompt, pixels)
            self.condition = self.plain.condition(self.written)
            self.image_latents = self.plain.vae.encode(self.source).latent_dist.mode()
        self.texts = {"prompt": [end], "with words": [*edit.words[: -1 - count], end], "with all": edit.words}
        self.calls: dict[str, Callable[[], object]] = {
            **{name: lambda words=words: self._write(words) for name, words in self.texts.items()},  # type: ignore[misc]
            "scores of the prompt": self._scores,
            "edit head": lambda: self.plain.condition(self.written),
            "source to latents": self._encode,
            "UNet, one step": self._unet,
            "latents to image": self._decode,
        }

    def seconds(self, median: dict[str, float], steps: int) -> dict[str, float]:
        """CPU seconds of each part of an edit of so many steps, from the medians of ``calls``."""
        return {
            "prompt": median["prompt"],
            "words": median["with words"] - median["prompt"],
            "visual tokens": median["with all"] - median["with words"],
            "edit head": median["edit head"],
            "source to latents": median["source to latents"],
            "UNet": steps * median["UNet, one step"],
            "latents to image": median["latents to image"],
        }

    def bounds(self, median: dict[str, float], steps: int) -> tuple[float, float]:
        """The smallest ratios of the text and of a whole edit with the plain edit's own kernels.

        No switch removes the prompt, the words, the edit head, the way to latents and back, or a pass of the UNet where
        all three predictions have a weight. It removes the scores of the prompt, and seven of the passes for the visual
        tokens and the one for the end.
        """
        part = self.seconds(median, steps)
        visual = part["visual tokens"] / len(self.edit.guide.prompt.visual_ids)
        text = sum(part[name] for name in ("prompt", "words", "visual tokens", "edit head"))
        least = part["prompt"] - median["scores of the prompt"] + part["words"] + visual + part["edit head"]
        image = sum(part[name] for name in ("source to latents", "UNet", "latents to image"))
        return least / text, (least + image) / (text + image)

    def _write(self, words: list[int]) -> None:
        with dictated(self.edit.case.editor, words):
            self.plain.write(self.edit.prompt, self.pixels)

    @torch.no_grad()
    def _scores(self) -> None:
        self.plain.llm.lm_head(self.written.hidden[0][-1])

    @torch.no_grad()
    def _encode(self) -> None:
        self.plain.vae.encode(self.source)

    @torch.no_grad()
    def _decode(self) -> None:
        self.plain.vae.decode(self.edit.latents)

    @torch.no_grad()
    def _unet(self) -> None:
        text, null = self.condition
        inputs = torch.cat([self.edit.latents, self.image_latents], 1).repeat(3, 1, 1, 1)
        self.plain.unet(inputs, 500, encoder_hidden_states=torch.cat([text, null, null]))
