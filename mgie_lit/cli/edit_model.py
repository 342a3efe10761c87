"""The pipeline of ``mgie edit`` with its device, seed and settings bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import Progress

from mgie_lit.config.devices import choose_device

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from mgie_lit.config.loaded import LoadedEditor
    from mgie_lit.pipeline import MGIEPipeline


@dataclass(frozen=True)
class EditModel:
    """Edits images, each with the same seed, so that a result does not depend on what else is edited."""

    pipeline: MGIEPipeline | LoadedEditor
    seed: int
    settings: Mapping[str, Any]  # of the call; numbers that are None = the preset's
    has_bar: bool = False  # whether denoising shows a progress bar on stderr

    def edit(self, image: Image.Image, instruction: str) -> tuple[Image.Image, str]:
        """The edited image and the expressive instruction."""
        return self.edit_all([image], [instruction])[0]

    def edit_all(self, images: list[Image.Image], instructions: list[str]) -> list[tuple[Image.Image, str]]:
        """The edited image and the expressive instruction of each, made together."""
        generators = [torch.Generator().manual_seed(self.seed) for _ in images]  # of the CPU: the same on all devices
        with Progress(console=Console(stderr=True), transient=True, disable=not self.has_bar) as progress:
            task = progress.add_task("denoising", total=None)

            def on_step(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            out = self.pipeline(
                image=images, instruction=instructions, generator=generators, on_step=on_step, **self.settings
            )
        return list(zip(out.images, out.expressive_instructions, strict=True))


def load_edit_model(
    model: str, *, weights: str, device: str | None, seed: int, has_bar: bool, **settings: float | str | None
) -> EditModel:
    """Load a pipeline for editing.

    Args:
        model: ``tiny``, a run directory, a ``.ckpt`` file, an export folder or a hub id.
        weights: Of a run or checkpoint: ``ema`` or ``raw``.
        device: As `choose_device` takes it.
        seed: Of the noise, 0 or more.
        has_bar: Whether denoising shows a progress bar.
        **settings: ``preset``, and ``num_inference_steps``, ``guidance_scale``, ``image_guidance_scale``, where None =
            the preset's.

    Returns:
        The model on its device.
    """
    chosen = choose_device(device)
    from mgie_lit.config.loaded import load_edit_pipeline

    pipeline = load_edit_pipeline(model, weights)
    pipeline.to(chosen)
    return EditModel(pipeline, seed, settings, has_bar)
