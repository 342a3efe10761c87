"""The pipeline of ``mgie edit`` with its device, seed and settings bound."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.progress import Progress

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from mgie_lit.pipeline import MGIEPipeline


@dataclass(frozen=True)
class EditModel:
    """Edits images one by one, each with the same seed."""

    pipeline: MGIEPipeline
    seed: int
    settings: Mapping[str, Any]  # numbers; None = the model's own default
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


def load_edit_model(model: str, *, device: str | None, seed: int, has_bar: bool, **settings: float | None) -> EditModel:
    """Load a pipeline for editing.

    Args:
        model: ``tiny``, an export folder or a hub id.
        device: As `choose_device` takes it.
        seed: Of the noise, 0 or more.
        has_bar: Whether denoising shows a progress bar.
        **settings: ``num_inference_steps``, ``guidance_scale``, ``image_guidance_scale``; None = the model's own.

    Returns:
        The model on its device.
    """
    chosen = choose_device(device)
    from mgie_lit.config.build import load_pipeline

    pipeline = load_pipeline(model)
    pipeline.to(chosen)
    return EditModel(pipeline, seed, settings, has_bar)


def choose_device(name: str | None) -> torch.device:
    """The device to run on.

    Args:
        name: E.g. ``cpu`` or ``cuda:1``; None takes the GPU where there is one.

    Returns:
        A device that this machine has.

    Raises:
        ConfigError: The machine has no such device.
    """
    available = available_devices()
    if name is None:
        return torch.device(available[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None:
        wanted = f"{device.type}:{device.index or 0}" if device.type == "cuda" else str(device)
        if wanted in available:
            return device
    raise ConfigError(f"--device: expected one of {', '.join(available)}, got {name}")


def available_devices() -> list[str]:
    """Devices of this machine, the fastest first."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]
