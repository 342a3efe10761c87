from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerAncestralDiscreteScheduler,
    UniPCMultistepScheduler,
)
from torch import Tensor

from mgie_lit.editor import Editor
from mgie_lit.errors import ConfigError
from mgie_lit.sampling.loop import sample_edit
from mgie_lit.sampling.solvers import SOLVERS, Solver, make_scheduler
from mgie_lit.testing.tiny_models import CONDITION_DIM, NUM_QUERIES, tiny_editor
from mgie_lit.types import Condition

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation")  # diffusers with NumPy 2

SD = {"num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
KIND = {"ddim": DDIMScheduler, "dpm_solver": DPMSolverMultistepScheduler, "unipc": UniPCMultistepScheduler}


def ddim(**changes: Any) -> DDIMScheduler:  # noqa: ANN401
    return DDIMScheduler(**{**SD, "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, **changes})


def stable_editor(seed: int, **changes: Any) -> Editor:  # noqa: ANN401
    """Random weights under Stable Diffusion's noise."""
    torch.manual_seed(seed)
    editor = tiny_editor("kl", prediction_type=changes.get("prediction_type", "epsilon"))
    editor.scheduler = ddim(**changes)
    return editor


def walk(editor: Editor, solver: Solver | None, steps: int, scale: float = 1.5) -> Tensor:
    """Latents at the end: the decoder is left out, because it is not what is compared."""
    generator = torch.Generator().manual_seed(3)
    text = torch.randn(2, NUM_QUERIES, CONDITION_DIM, generator=generator)
    condition = Condition(text, torch.zeros(1, NUM_QUERIES, CONDITION_DIM), ["", ""])
    source = torch.rand(2, 3, 8, 12, generator=generator) * 2 - 1
    editor.decode = lambda latents: latents  # type: ignore[method-assign]
    return sample_edit(
        editor,
        source,
        condition,
        walk_start(),
        num_inference_steps=steps,
        guidance_scale=scale,
        image_guidance_scale=1.2,
        solver=solver,
    )


def walk_start() -> Tensor:
    return torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(4))


def distance(one: Tensor, other: Tensor) -> float:
    return float((one - other).square().mean().sqrt() / other.square().mean().sqrt())


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize(
    "scheduler",
    [
        ddim(prediction_type="v_prediction", rescale_betas_zero_snr=True, timestep_spacing="trailing"),
        ddim(beta_end=0.02, prediction_type="sample", timestep_spacing="linspace"),
        ddim(beta_schedule="linear", trained_betas=[0.01] * 40, num_train_timesteps=40),
        DDIMScheduler(**SD, clip_sample=False),  # its spacing is the default of its class, not of the solver's
    ],
)
def test_the_noise_of_the_model_carries_over(solver: Solver, scheduler: Any) -> None:  # noqa: ANN401
    made = make_scheduler(scheduler, solver, 5)
    assert type(made) is KIND[solver]
    same = ("num_train_timesteps", "prediction_type", "timestep_spacing", "steps_offset")
    assert {key: made.config[key] for key in same} == {key: scheduler.config.get(key, 0) for key in same}
    inner = slice(0, -1)  # diffusers replaces the last one of zero terminal SNR by a small number
    torch.testing.assert_close(made.alphas_cumprod[inner], scheduler.alphas_cumprod[inner])


def test_without_a_solver_it_is_a_copy_of_the_model_s_own() -> None:
    own = EulerAncestralDiscreteScheduler(**SD)
    made = make_scheduler(own, None, 5)
    assert type(made) is EulerAncestralDiscreteScheduler
    assert made is not own
    assert made.config == own.config


def test_ddim_on_a_ddim_model_is_its_own_sampler() -> None:
    for changes in ({}, {"set_alpha_to_one": True, "timestep_spacing": "trailing", "steps_offset": 0}):
        editor = stable_editor(0, **changes)
        assert torch.equal(walk(editor, "ddim", 4), walk(editor, None, 4))


@pytest.mark.parametrize("solver", ["dpm_solver", "unipc"])
def test_steps_follow_the_noise_levels_where_these_are_finite(solver: Solver) -> None:
    assert make_scheduler(ddim(), solver, 5).config["use_karras_sigmas"]
    pure = ddim(rescale_betas_zero_snr=True, prediction_type="sample", timestep_spacing="trailing", steps_offset=0)
    made = make_scheduler(pure, solver, 5)
    made.set_timesteps(5, torch.device("cpu"))
    assert made.timesteps.tolist() == [999, 799, 599, 399, 199]


def test_ddim_does_not_clip_where_the_model_s_scheduler_does_not() -> None:
    assert not make_scheduler(EulerAncestralDiscreteScheduler(**SD), "ddim", 5).config["clip_sample"]


def denoise_gaussian(editor: Editor, std: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``editor`` predict perfectly where all images are normal with that deviation; all branches alike."""
    alphas_cumprod = editor.scheduler.alphas_cumprod

    def predict(noisy: Tensor, source: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        alpha = alphas_cumprod[timesteps.long()][:, None, None, None]
        clean = alpha.sqrt() * std**2 * noisy / (alpha * std**2 + 1 - alpha)
        noise = (noisy - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        velocity = alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        return {"epsilon": noise, "sample": clean, "v_prediction": velocity}[editor.prediction_type]

    monkeypatch.setattr(editor, "predict", predict)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
def test_solvers_of_second_order_come_to_the_closed_form(prediction_type: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Along the ordinary differential equation that all of them solve, normal images only change their deviation."""
    std = 0.5
    editor = stable_editor(0, prediction_type=prediction_type, set_alpha_to_one=True, timestep_spacing="linspace")
    denoise_gaussian(editor, std, monkeypatch)
    alpha = editor.scheduler.alphas_cumprod[-1]
    exact = walk_start() * std / (alpha * std**2 + 1 - alpha).sqrt()
    apart = {(solver, steps): distance(walk(editor, solver, steps), exact) for solver in SOLVERS for steps in (10, 20)}
    for solver in ("dpm_solver", "unipc"):
        assert apart[solver, 10] < 0.06
        assert apart[solver, 20] < apart[solver, 10] / 3  # of second order it would be 4; timesteps are rounded
        assert apart[solver, 20] < apart["ddim", 20] / 4


def test_with_a_network_they_come_to_where_ddim_goes() -> None:
    """Tolerance: 100 steps of first order leave 0.9 %, as those of 50 and 100 extrapolate; rounded timesteps 0.7 %."""
    editor = stable_editor(0, set_alpha_to_one=True, timestep_spacing="trailing", steps_offset=0)
    target = walk(editor, "ddim", 100, 1.2)
    for solver in ("dpm_solver", "unipc"):
        assert distance(walk(editor, solver, 20, 1.2), target) < 0.02
    assert distance(walk(editor, "ddim", 5, 1.2), target) > 0.04


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("prediction_type", ["v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 2, 7])
def test_zero_terminal_snr(solver: Solver, prediction_type: str, steps: int) -> None:
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "steps_offset": 0}
    edited = walk(stable_editor(0, prediction_type=prediction_type, **changes), solver, steps)
    assert edited.isfinite().all()
    assert edited.abs().max() < 20


def test_one_step_from_pure_noise_is_the_prediction_itself() -> None:
    changes = {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing", "steps_offset": 0}
    editor = stable_editor(0, prediction_type="sample", set_alpha_to_one=True, **changes)
    results = [walk(editor, solver, 1) for solver in (None, *SOLVERS)]
    for other in results[1:]:
        torch.testing.assert_close(other, results[0])


@pytest.mark.parametrize("solver", SOLVERS)
def test_a_model_of_noise_has_no_pure_noise(solver: Solver) -> None:
    message = rf"solver: {solver} needs clean latents at each timestep.*expected a model that predicts sample or"
    with pytest.raises(ConfigError, match=message):
        make_scheduler(ddim(rescale_betas_zero_snr=True), solver, 5)


@pytest.mark.parametrize("solver", ["dpm_solver", "unipc"])
def test_clipping_is_not_dropped_silently(solver: Solver) -> None:
    assert make_scheduler(ddim(clip_sample=True), "ddim", 5).config["clip_sample"]
    with pytest.raises(ConfigError, match=rf"clip_sample=true\), which {solver} can not do; expected ddim, or no"):
        make_scheduler(ddim(clip_sample=True), solver, 5)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("solver", SOLVERS)
def test_the_largest_number_of_steps(solver: Solver, spacing: str) -> None:
    limit = 200 if solver == "ddim" else 199
    own = ddim(num_train_timesteps=200, timestep_spacing=spacing, steps_offset=0)
    made = make_scheduler(own, solver, limit)
    made.set_timesteps(limit, torch.device("cpu"))
    assert len(made.timesteps) == limit
    latents = torch.ones(1, 4, 2, 2)
    for timestep in made.timesteps:
        latents = made.step(0.1 * latents, timestep, latents).prev_sample
    assert latents.isfinite().all()
    reason = "" if solver == "ddim" else rf" \(one less with solver={solver}\)"
    message = rf"num_inference_steps: expected at most {limit}, the timesteps .* trained on{reason}, got {limit + 1}$"
    with pytest.raises(ConfigError, match=message):
        make_scheduler(own, solver, limit + 1)
