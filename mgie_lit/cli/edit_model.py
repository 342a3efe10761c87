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
    """Edits images one by one, each with the same seed."""

    pipeline: MGIEPipeline | LoadedEditor
    seed: int
    settings: Mapping[str, Any]  # of the call; numbers that are None = the preset's
    has_bar: bool = False  # whether denoising shows a progress bar on stderr

    def edit(self, image: Image.Image, instruction: str) -> tuple[Image.Image, str]:
        """The edited image and the expressive instruction."""
        generator = torch.Generator().manual_seed(self.seed)  # on the CPU, so that all devices draw the same noise
        with Progress(console=Console(stderr=True), transient=True, disable=not self.has_bar) as progress:
            task = progress.add_task("denoising", total=None)

            def on_step(done: int, total: int) -> None:
                progress.update(task, completed=done, total=total)

            out = self.pipeline(
                image=image, instruction=instruction, generator=generator, on_step=on_step, **self.settings
            )
        return out.images[0], out.expressive_instructions[0]


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
