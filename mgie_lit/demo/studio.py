"""Requests to jobs: what the page and the HTTP API both call; knows nothing of either."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from mgie_lit.demo.engine import Engine, Job
from mgie_lit.demo.interrupt import checked_layers
from mgie_lit.demo.requests import Edit, EditRequest, check_request
from mgie_lit.errors import ConfigError
from mgie_lit.sampling.presets import Preset, apply_preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image

    from mgie_lit.demo.files import Files
    from mgie_lit.demo.limits import Limits
    from mgie_lit.demo.models import EditModel, Shelf


@dataclass(frozen=True, slots=True)
class Defaults:
    """Settings that a model was made for; steps are within the limits."""

    steps: int
    guidance_scale: float
    image_guidance_scale: float


class Studio:
    """Models, pictures and the queue of one device.

    Args:
        shelf: Models to choose from.
        files: Where pictures are.
        limits: What a request may ask for.
    """

    def __init__(self, shelf: Shelf, files: Files, limits: Limits) -> None:
        self.shelf, self.files, self.limits = shelf, files, limits
        self.engine = Engine(limits.queue)
        self._defaults: dict[tuple[str, str], Defaults] = {}

    def edit(self, requests: Sequence[EditRequest]) -> Job[list[Edit]]:
        """Queue edits that belong together; they take one place in the queue.

        Args:
            requests: At least one; those of one model should be neighbours.

        Returns:
            A job; its parts are the edits so far.

        Raises:
            MGIEError: A request is out of the limits, its picture or model is none, or the queue is full.
        """
        if len(requests) > self.limits.grid:
            raise ConfigError(
                f"Comparison: expected at most {self.limits.grid} edits at once, got {len(requests)}; choose fewer "
                "models or seeds"
            )
        for request in requests:
            self.shelf.check(request.model)
            check_request(request, self.limits)
        for source in {request.source for request in requests}:
            self.files.open(source)  # a faulty one is told of now, not after the wait
        return self.engine.submit(lambda job: self._make_all(job, requests))

    def defaults(self, model: str, preset: Preset = "plain") -> Job[Defaults]:
        """Ask which settings a model was made for; one that was not asked for yet is loaded for that, in its turn.

        Args:
            model: One of the shelf's names.
            preset: Whose settings.

        Returns:
            A job.

        Raises:
            MGIEError: There is no such model, or the queue is full.
        """
        self.shelf.check(model)

        def look(job: Job[Defaults]) -> Defaults:
            if (model, preset) not in self._defaults:
                self._defaults[model, preset] = _defaults(self._load(job, model), preset, self.limits.steps)
            return self._defaults[model, preset]

        if (model, preset) not in self._defaults:
            return self.engine.submit(look)
        known = Job(look)  # need not wait
        known.run()
        return known

    def close(self) -> None:
        """Stop all jobs and remove all pictures."""
        self.engine.close()
        self.files.close()

    def _load(self, job: Job[Any], name: str) -> EditModel:
        if not self.shelf.is_loaded(name):
            job.report(f"Loading {name}")
        return self.shelf.get(name)

    def _make_all(self, job: Job[list[Edit]], requests: Sequence[EditRequest]) -> list[Edit]:
        for index, request in enumerate(requests):
            model = self._load(job, request.model)
            name = f"Edit {index + 1} of {len(requests)}: " if len(requests) > 1 else ""

            def on_step(done: int, total: int, index: int = index, name: str = name) -> None:
                steps_done, steps = total * index + done, total * len(requests)
                job.report(f"{name}step {done} of {total}".capitalize(), steps_done, steps)

            job.report(f"{name}writing the instruction".capitalize(), index, len(requests))
            with checked_layers(model.editor, job.check):
                job.parts.append(self._make(model, request, on_step))
        return list(job.parts)

    def _make(self, model: EditModel, request: EditRequest, on_step: Callable[[int, int], None]) -> Edit:
        source = self.files.open(request.source)
        start = time.perf_counter()
        image, words = _call(model, source, request, on_step)
        return Edit(request, self.files.save(image), words, time.perf_counter() - start)


def _call(
    model: EditModel, source: Image.Image, request: EditRequest, on_step: Callable[[int, int], None]
) -> tuple[Image.Image, str]:
    try:
        out = model(
            source,
            request.instruction.strip(),
            preset=request.preset,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance_scale,
            image_guidance_scale=request.image_guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),  # on the CPU: all devices draw the same noise
            on_step=on_step,
        )
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise ConfigError(
            "The device has too little memory for this edit; use a smaller picture, or start the demo with a smaller "
            "model"
        ) from error
    return out.images[0], out.expressive_instructions[0]


def _defaults(model: EditModel, preset: Preset, most_steps: int) -> Defaults:
    options = apply_preset(preset, model.options, model.editor.scheduler)
    steps = min(options.num_inference_steps, most_steps)
    return Defaults(steps, options.guidance_scale, options.image_guidance_scale)
