"""The call of any editor: images of any mode and orientation, one or several, with one instruction or one each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from diffusers.utils.outputs import BaseOutput
from PIL import Image

from mgie_lit.editor import Editor
from mgie_lit.functional.pictures import to_rgb, upright
from mgie_lit.models.layout import lay_for_editing
from mgie_lit.sampling.edit import SamplingOptions, edit_images


@dataclass
class MGIEPipelineOutput(BaseOutput):
    """Edited RGB images of the sources' sizes, and what the MLLM wrote for each."""

    images: list[Image.Image]
    expressive_instructions: list[str]


def call_editor(
    editor: Editor,
    options: SamplingOptions,
    image: Image.Image | Sequence[Image.Image],
    instruction: str | Sequence[str],
    *,
    generator: torch.Generator | Sequence[torch.Generator] | None,
    latents: torch.Tensor | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> MGIEPipelineOutput:
    """Edit one image or several with any editor; the arguments are those of a `MGIEPipeline`'s call.

    Args:
        editor: In eval mode; its weights are laid as an edit reads them, unless they are being trained.
        options: Of this call.
        image: Image(s) of any size and mode.
        instruction: One for each image, or one for all.
        generator: One for all images or one for each; several for one image and one instruction give as many edits.
        latents: Instead of drawn noise.
        on_step: Called with (steps done, steps in all).

    Returns:
        Edited images and the expressive instructions.
    """
    lay_for_editing(editor)
    images = [image] if isinstance(image, Image.Image) else list(image)
    images = [to_rgb(upright(picture)) for picture in images]
    instructions = [instruction] * len(images) if isinstance(instruction, str) else list(instruction)
    generators = _one_for_each(generator, len(images))
    if len(images) == len(instructions) == 1 < len(generators):
        images, instructions = images * len(generators), instructions * len(generators)
    edited = edit_images(
        editor, images, instructions, options=options, generators=generators, latents=latents, on_step=on_step
    )
    return MGIEPipelineOutput(
        images=[result.image for result in edited],
        expressive_instructions=[result.expressive_instruction for result in edited],
    )


def _one_for_each(generator: torch.Generator | Sequence[torch.Generator] | None, count: int) -> list[torch.Generator]:
    """Generators, one an image; a single one is used in turn, None draws a seed from torch's global state."""
    if generator is None:
        return [torch.Generator().manual_seed(int(torch.randint(2**31, ()))) for _ in range(count)]
    if isinstance(generator, torch.Generator):
        return [generator] * count
    return list(generator)
