"""Which solver walks from noise to an image: the scheduler that a model came with, or another one of the same noise."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Literal, get_args

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from diffusers.schedulers.scheduling_dpmsolver_multistep import DPMSolverMultistepScheduler
from diffusers.schedulers.scheduling_unipc_multistep import UniPCMultistepScheduler

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from typing import Any

    from mgie_lit.models.scheduler import Scheduler

Solver = Literal["ddim", "dpm_solver", "unipc"]
SOLVERS: tuple[Solver, ...] = get_args(Solver)
_CLASSES: dict[Solver, Any] = {
    "ddim": DDIMScheduler,  # arXiv:2010.02502, first order
    "dpm_solver": DPMSolverMultistepScheduler,  # DPM-Solver++(2M), arXiv:2211.01095
    "unipc": UniPCMultistepScheduler,  # arXiv:2302.04867, second order and a corrector
}
_SECOND_ORDER: tuple[Solver, ...] = ("dpm_solver", "unipc")
_SPACING = "leading"  # of schedulers that name none; diffusers' classes differ in their defaults


def make_scheduler(scheduler: Scheduler, solver: Solver | None, num_inference_steps: int) -> Scheduler:
    """A scheduler of its own for one sampling.

    Betas, prediction type, zero terminal SNR and the spacing of the timesteps are the model's. Only the solvers of
    second order spread their steps over the noise levels of Karras et al. (arXiv:2206.00364, eq. 5) instead, where
    these are finite: the last of a few evenly spaced steps would be a long one, of first order, and wash out the image.

    Args:
        scheduler: The model's; it is left as it is.
        solver: None = the model's own.
        num_inference_steps: Of the sampling, at least 1.

    Returns:
        A scheduler without timesteps.

    Raises:
        ConfigError: There are more steps than timesteps that differ, or the solver can not do what the model needs.
    """
    _check_steps(scheduler, solver, num_inference_steps)
    if solver is None:
        return deepcopy(scheduler)
    config = scheduler.config
    _check_solver(config, solver)
    kept: dict[str, Any] = {"timestep_spacing": config.get("timestep_spacing", _SPACING)}
    if solver == "ddim":
        kept |= {"clip_sample": config.get("clip_sample", False), "set_alpha_to_one": _ends_clean(config)}
    else:
        kept |= {"use_karras_sigmas": not config.get("rescale_betas_zero_snr")}
    made: Scheduler = _CLASSES[solver].from_config(config, **kept)
    return made


def _ends_clean(config: dict[str, Any]) -> bool:
    """Whether the last step ends at clean latents: all schedulers do but those that say otherwise."""
    return bool(config.get("set_alpha_to_one", True))


def _check_steps(scheduler: Scheduler, solver: Solver | None, num_inference_steps: int) -> None:
    limit = scheduler.config["num_train_timesteps"]
    if solver in _SECOND_ORDER:
        limit -= 1  # they spread one timestep more and leave it out; two alike would divide by zero
    if num_inference_steps > limit:
        with_solver = f" (one less with solver={solver})" if solver in _SECOND_ORDER else ""
        raise ConfigError(
            f"num_inference_steps: expected at most {limit}, the timesteps that the model was trained on{with_solver}, "
            f"got {num_inference_steps}"
        )


def _check_solver(config: dict[str, Any], solver: Solver) -> None:
    """What a solver would silently do wrong."""
    if config.get("rescale_betas_zero_snr") and config["prediction_type"] == "epsilon":
        raise ConfigError(
            f"solver: {solver} needs clean latents at each timestep, which a model of noise (prediction_type=epsilon) "
            "does not give at pure noise (rescale_betas_zero_snr=true); expected a model that predicts sample or "
            "v_prediction, or no solver"
        )
    if solver != "ddim" and config.get("clip_sample"):
        raise ConfigError(
            f"solver: the model's scheduler clips its predictions (clip_sample=true), which {solver} can not do; "
            "expected ddim, or no solver"
        )
