"""Images of any size and instructions in, edited images of the same size out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from PIL import Image

from mgie_lit.editor import Editor
from mgie_lit.functional.images import floor_size, pil_to_unit, to_signed, to_unit, unit_to_pil, working_size
from mgie_lit.functional.transfer import transfer_edit
from mgie_lit.sampling.loop import ALL_LEVELS, initial_latents, sample_edit
from mgie_lit.sampling.solvers import SOLVERS, Solver, make_scheduler
from mgie_lit.types import Condition, EditedImage

Transfer = Literal["guided", "resize"]


@dataclass(frozen=True, slots=True)
class SamplingOptions:
    """How images are edited.

    Raises:
        ValueError: A value is out of its range; the message names it.
    """

    resolution: int  # pixels; the working size has about this side squared
    num_inference_steps: int = 20  # denoising steps
    guidance_scale: float = 7.5  # weight of the instruction; 1 = off
    image_guidance_scale: float = 1.5  # weight of the source image; 1 = off
    transfer: Transfer = "resize"  # from working to full size: "guided" keeps the source's detail, "resize" does not
    solver: Solver | None = None  # None = the model's own scheduler; others walk through the same noise
    # Noise levels at which the scales count, lowest and highest, as parts of the timesteps (0 = clean, 1 = pure noise);
    # at others only one of the three predictions is made, without guidance. (0, 1) = everywhere.
    guidance_interval: tuple[float, float] = ALL_LEVELS

    def __post_init__(self) -> None:
        """Check the ranges."""
        object.__setattr__(self, "guidance_interval", tuple(self.guidance_interval))  # a config brings a list
        if self.num_inference_steps < 1:
            raise ValueError(f"num_inference_steps: expected an integer >= 1, got {self.num_inference_steps}")
        for name in ("guidance_scale", "image_guidance_scale"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name}: expected a number >= 0, got {getattr(self, name)}")
        if self.transfer not in get_args(Transfer):
            raise ValueError(f"transfer: expected one of {', '.join(get_args(Transfer))}, got {self.transfer!r}")
        if self.solver is not None and self.solver not in SOLVERS:
            raise ValueError(f"solver: expected one of {', '.join(SOLVERS)} or null, got {self.solver!r}")
        if not (len(self.guidance_interval) == 2 and 0 <= self.guidance_interval[0] < self.guidance_interval[1] <= 1):
            raise ValueError(
                "guidance_interval: expected two numbers, 0 <= low < high <= 1, got "
                f"{', '.join(map(str, self.guidance_interval))}; scales of 1 turn guidance off"
            )


@torch.no_grad()
def edit_images(
    editor: Editor,
    sources: Sequence[Image.Image],
    instructions: Sequence[str],
    *,
    options: SamplingOptions,
    generators: Sequence[torch.Generator],
    latents: torch.Tensor | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> list[EditedImage]:
    """Edit RGB images of any size; every result has its source's size.

    With ``faults.demo_images`` it has the size at which it was made, as in the released demo.

    Args:
        editor: In eval mode.
        sources: RGB images; those with the same working size are edited in one batch.
        instructions: One for every image.
        options: Steps, scales, working resolution and the way back to full size.
        generators: One for every image, so that a result does not depend on its neighbours.
        latents: ``(B, C, h, w)`` standard normal instead of the generators' (all working sizes must then agree).
        on_step: Called with (steps done, steps in all) of the current batch.

    Returns:
        Edited images with their expressive instructions, in the order of ``sources``.

    Raises:
        ConfigError: There are more steps than the scheduler has timesteps, or the solver does not fit the model.
        ValueError: The lengths differ, or ``latents`` have the wrong shape.
    """
    make_scheduler(editor.scheduler, options.solver, options.num_inference_steps)  # or the fault shows after minutes
    if not len(sources) == len(instructions) == len(generators):
        raise ValueError(
            f"expected as many instructions and generators as images ({len(sources)}), got {len(instructions)} and "
            f"{len(generators)}"
        )
    if latents is not None and len(latents) != len(sources):
        raise ValueError(f"latents: expected one for each of {len(sources)} images, got shape {tuple(latents.shape)}")
    edited: dict[int, EditedImage] = {}
    for size, indices in _group_by_working_size(editor, sources, options.resolution).items():
        pictures = {id(sources[index]): sources[index] for index in indices}  # each is resized and encoded once
        resized = {key: _resize(editor, picture, size) for key, picture in pictures.items()}
        small = [resized[id(sources[index])] for index in indices]
        seen = [sources[index] for index in indices] if editor.faults.demo_images else small
        condition = _condition(editor, seen, [instructions[index] for index in indices])
        low = _edit_batch(
            editor,
            small,
            condition,
            latents=None if latents is None else latents[indices],
            generators=[generators[index] for index in indices],
            options=options,
            on_step=on_step,
        )  # (B, 3, h, w) in [0, 1]
        for row, index in enumerate(indices):
            keeps_size = editor.faults.demo_images  # the demo's edit has the size that it was made at
            image = (
                unit_to_pil(low[row]) if keeps_size else _to_full_size(sources[index], small[row], low[row], options)
            )
            edited[index] = EditedImage(image, condition.expressive_instructions[row])
    return [edited[index] for index in range(len(sources))]


def _condition(editor: Editor, seen: list[Image.Image], instructions: list[str]) -> Condition:
    """Condition of each row; those that differ in their noise alone share what the guide says."""
    pairs = list(zip(map(id, seen), instructions, strict=True))
    firsts = {pair: index for index, pair in reversed(list(enumerate(pairs)))}
    order = sorted(firsts.values())
    asked: Condition = editor.guide.condition([seen[i] for i in order], [instructions[i] for i in order])  # type: ignore[operator]
    if len(order) == len(pairs):
        return asked
    rows = [order.index(firsts[pair]) for pair in pairs]
    return replace(
        asked, text=asked.text[rows], expressive_instructions=[asked.expressive_instructions[i] for i in rows]
    )


def _group_by_working_size(
    editor: Editor, sources: Sequence[Image.Image], resolution: int
) -> dict[tuple[int, int], list[int]]:
    groups: dict[tuple[int, int], list[int]] = {}
    for index, image in enumerate(sources):
        size = (
            floor_size(*image.size, multiple=editor.size_multiple)
            if editor.faults.demo_images
            else working_size(*image.size, resolution=resolution, multiple=editor.size_multiple)
        )
        groups.setdefault(size, []).append(index)
    return groups


def _edit_batch(
    editor: Editor,
    sources: list[Image.Image],
    condition: Condition,
    *,
    latents: torch.Tensor | None,
    generators: list[torch.Generator],
    options: SamplingOptions,
    on_step: Callable[[int, int], None] | None,
) -> torch.Tensor:
    """Edited images of one working size, ``(B, 3, h, w)`` in [0, 1] on the CPU."""
    pictures = sources[:1] if all(image is sources[0] for image in sources) else sources
    source = to_signed(torch.stack([pil_to_unit(image) for image in pictures]))  # (B or 1, 3, h, w)
    shape = editor.latent_shape(*source.shape[-2:])
    if latents is None:
        latents = initial_latents(editor, shape, generators)
    elif tuple(latents.shape) != (len(sources), *shape):
        raise ValueError(f"latents: expected shape {(len(sources), *shape)}, got {tuple(latents.shape)}")
    edited = sample_edit(
        editor,
        source,
        condition,
        latents.to(editor.device, torch.float32),
        num_inference_steps=options.num_inference_steps,
        guidance_scale=options.guidance_scale,
        image_guidance_scale=options.image_guidance_scale,
        guidance_interval=options.guidance_interval,
        solver=options.solver,
        generators=generators,
        on_step=on_step,
    )
    return to_unit(edited).cpu()


def _resize(editor: Editor, image: Image.Image, size: tuple[int, int]) -> Image.Image:
    resample = Image.Resampling.LANCZOS if editor.faults.demo_images else Image.Resampling.BICUBIC
    return image if image.size == size else image.resize(size, resample)


def _to_full_size(
    source: Image.Image, small: Image.Image, edited: torch.Tensor, options: SamplingOptions
) -> Image.Image:
    """The edit at the source's own size."""
    if small.size == source.size:
        return unit_to_pil(edited)
    if options.transfer == "resize":
        return unit_to_pil(edited).resize(source.size, Image.Resampling.BICUBIC)
    return unit_to_pil(transfer_edit(pil_to_unit(source), pil_to_unit(small), edited))
