"""Named ways to sample: ``plain`` is the model's own, ``fast`` has fewer passes of the UNet."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.models.scheduler import Scheduler
    from mgie_lit.sampling.edit import SamplingOptions
    from mgie_lit.sampling.solvers import Solver

Preset = Literal["plain", "fast"]
PRESETS: tuple[Preset, ...] = get_args(Preset)

FAST_SOLVER: Solver = "dpm_solver"
FAST_STEPS = 10  # where DPM-Solver++ comes close to many DDIM steps (arXiv:2211.01095, section 7)
# Parts of the timesteps; with SD-1.5's betas sigma 0.28 to 5.6, what arXiv:2404.07724 uses for Stable Diffusion XL.
FAST_GUIDANCE_INTERVAL = (0.07, 0.82)
FAST_CLEAN_STEPS = 1  # of models whose own sampler has few steps because they predict clean latents


def apply_preset(preset: Preset, options: SamplingOptions, scheduler: Scheduler, **changes: Any) -> SamplingOptions:  # noqa: ANN401
    """Options of a call: those of the preset, and what the call names itself.

    Args:
        preset: ``plain`` or ``fast``.
        options: The model's own.
        scheduler: The model's.
        **changes: Fields of ``SamplingOptions`` that go before the preset's; None = the preset's.

    Returns:
        The options.

    Raises:
        ConfigError: There is no such preset.
        ValueError: A change is out of its range.
    """
    if preset not in PRESETS:
        raise ConfigError(f"preset: expected one of {', '.join(PRESETS)}, got {preset!r}; choose one of these")
    chosen = fast(options, scheduler) if preset == "fast" else options
    return replace(chosen, **{name: value for name, value in changes.items() if value is not None})


def fast(options: SamplingOptions, scheduler: Scheduler) -> SamplingOptions:
    """Fewer steps with a solver of second order, and guidance only where it matters; never more steps than before.

    A model that predicts clean latents and samples in a few steps keeps its sampler and gets fewer steps.

    Args:
        options: The model's own.
        scheduler: The model's.

    Returns:
        The changed options; scales, resolution and the way to full size stay.
    """
    steps = options.num_inference_steps
    if scheduler.config["prediction_type"] == "sample" and steps <= FAST_STEPS:
        return replace(options, num_inference_steps=min(steps, FAST_CLEAN_STEPS))
    return replace(
        options,
        num_inference_steps=min(steps, FAST_STEPS),
        solver=FAST_SOLVER,
        guidance_interval=FAST_GUIDANCE_INTERVAL,
    )
