"""The denoising loop with guidance by instruction and source image."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from mgie_lit.editor import Editor
from mgie_lit.functional.guidance import combine_guidance, guidance_weights, is_guided
from mgie_lit.sampling.solvers import Solver, make_scheduler
from mgie_lit.types import Condition

ALL_LEVELS = (0.0, 1.0)  # guidance from pure noise to clean latents


def initial_latents(editor: Editor, shape: tuple[int, int, int], generators: Sequence[torch.Generator]) -> Tensor:
    """Standard normal latents, one generator a sample, ``(B, C, h, w)``; drawn on the generator's device."""
    draws = [torch.randn(shape, generator=generator, device=generator.device) for generator in generators]
    return torch.stack([draw.to(editor.device) for draw in draws])


@torch.no_grad()
def sample_edit(
    editor: Editor,
    source: Tensor,
    condition: Condition,
    latents: Tensor,
    *,
    num_inference_steps: int,
    guidance_scale: float,
    image_guidance_scale: float,
    guidance_interval: tuple[float, float] = ALL_LEVELS,
    solver: Solver | None = None,
    generators: Sequence[torch.Generator] | None = None,
    on_step: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Edit a batch of images of one size.

    Args:
        editor: In eval mode.
        source: ``(B, 3, H, W)`` in [-1, 1]; sides are multiples of ``editor.size_multiple``. One image alone is the
            source of all latents and is encoded once.
        condition: Of these images and their instructions; a single one holds for all.
        latents: ``(B, C, h, w)`` standard normal; where the trajectory starts.
        num_inference_steps: Denoising steps, at least 1.
        guidance_scale: Weight of the instruction; 1.0 = no guidance.
        image_guidance_scale: Weight of the source image; 1.0 = no guidance.
        guidance_interval: Noise levels with guidance, as parts of the timesteps; at others only the prediction with
            image and text is made.
        solver: None = the model's own scheduler.
        generators: Noise of schedulers that add some on the way, one generator a sample.
        on_step: Called with (steps done, steps in all).

    Returns:
        ``(B, 3, H, W)`` in [-1, 1], not clipped.

    Raises:
        ConfigError: There are too many steps, or the solver does not fit the model.
    """
    scheduler = make_scheduler(editor.scheduler, solver, num_inference_steps)  # it keeps state while it samples
    scheduler.set_timesteps(num_inference_steps, device=editor.device)
    is_random = generators is not None and "generator" in inspect.signature(scheduler.step).parameters
    step_kwargs = {"generator": list(generators or ())} if is_random else {}
    source_latents = editor.encode_source(source.to(editor.device)).expand(len(latents), -1, -1, -1)  # (B, C, h, w)
    text = condition.text.expand(len(latents), -1, -1)  # (B, Q, D)
    latents = latents * scheduler.init_noise_sigma
    levels = (scheduler.timesteps / scheduler.config["num_train_timesteps"]).tolist()
    for index, (timestep, level) in enumerate(zip(scheduler.timesteps, levels, strict=True)):
        has_guidance = is_guided(level, guidance_interval)
        scaled = scheduler.scale_model_input(latents, timestep)
        preds = _guided_prediction(
            editor,
            scaled,
            source_latents,
            timestep.expand(len(latents)),
            text,
            condition.null,
            guidance_scale=guidance_scale if has_guidance else 1.0,
            image_guidance_scale=image_guidance_scale if has_guidance else 1.0,
        )
        output = scheduler.step(preds, timestep, latents, **step_kwargs)
        latents = output.prev_sample
        if on_step is not None:
            on_step(index + 1, len(scheduler.timesteps))
    if scheduler.config.get("set_alpha_to_one"):  # it means to end at clean latents; DDIM's rounding can miss them
        latents = getattr(output, "pred_original_sample", latents)
    return editor.decode(latents)


def _guided_prediction(
    editor: Editor,
    noisy: Tensor,
    source_latents: Tensor,
    timesteps: Tensor,
    text: Tensor,
    null: Tensor,
    *,
    guidance_scale: float,
    image_guidance_scale: float,
) -> Tensor:
    """Prediction ``(B, C, h, w)``: the branches that have a weight, in one batch."""
    scales = {"guidance_scale": guidance_scale, "image_guidance_scale": image_guidance_scale}
    null = null.expand_as(text)
    inputs = ((torch.zeros_like(source_latents), null), (source_latents, null), (source_latents, text))
    needed = [(weight, given) for weight, given in zip(guidance_weights(**scales), inputs, strict=True) if weight]
    preds = editor.predict(
        noisy.repeat(len(needed), 1, 1, 1),
        torch.cat([source for _, (source, _) in needed]),
        timesteps.repeat(len(needed)),
        torch.cat([words for _, (_, words) in needed]),
    )  # (N B, C, h, w)
    branches = preds.unflatten(0, (len(needed), -1))  # type: ignore[no-untyped-call]
    if len(needed) == len(inputs):
        return combine_guidance(branches, **scales)
    parts = [weight * branch for (weight, _), branch in zip(needed, branches, strict=True)]
    return torch.stack(parts).sum(0)
