from __future__ import annotations

from dataclasses import replace

import pytest

from mgie_lit.errors import ConfigError
from mgie_lit.functional.guidance import is_guided
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.sampling.presets import FAST_GUIDANCE_INTERVAL, FAST_SOLVER, FAST_STEPS, apply_preset, fast
from mgie_lit.testing.tiny_models import tiny_scheduler

PLAIN = SamplingOptions(resolution=32, num_inference_steps=100, guidance_scale=7.0, image_guidance_scale=1.4)
NOISE, CLEAN = tiny_scheduler("epsilon"), tiny_scheduler("sample")


def test_plain_is_what_the_model_has() -> None:
    assert apply_preset("plain", PLAIN, NOISE, num_inference_steps=None, solver=None) is not None
    assert apply_preset("plain", PLAIN, NOISE, num_inference_steps=None, solver=None) == PLAIN


def test_fast_has_few_steps_of_second_order_with_guidance_inside() -> None:
    assert fast(PLAIN, NOISE) == replace(
        PLAIN, num_inference_steps=FAST_STEPS, solver=FAST_SOLVER, guidance_interval=FAST_GUIDANCE_INTERVAL
    )
    assert fast(PLAIN, CLEAN).num_inference_steps == FAST_STEPS


@pytest.mark.parametrize("steps", [1, 4, 8, 10, 11, 1000])
def test_fast_never_has_more_steps(steps: int) -> None:
    for scheduler in (NOISE, CLEAN):
        assert fast(replace(PLAIN, num_inference_steps=steps), scheduler).num_inference_steps <= steps


def test_a_sampler_of_a_few_clean_latents_keeps_its_ways() -> None:
    few = replace(PLAIN, num_inference_steps=4, guidance_scale=1.0, image_guidance_scale=1.0, transfer="guided")
    assert fast(few, CLEAN) == replace(few, num_inference_steps=1)


def test_what_a_call_names_goes_first() -> None:
    chosen = apply_preset(
        "fast", PLAIN, NOISE, num_inference_steps=30, guidance_scale=0.0, solver="unipc", guidance_interval=(0.0, 0.5)
    )
    assert (chosen.num_inference_steps, chosen.guidance_scale, chosen.image_guidance_scale) == (30, 0.0, 1.4)
    assert (chosen.solver, chosen.guidance_interval) == ("unipc", (0.0, 0.5))


def test_no_such_preset() -> None:
    with pytest.raises(ConfigError, match="preset: expected one of plain, fast, got 'faster'; choose one of these"):
        apply_preset("faster", PLAIN, NOISE)  # type: ignore[arg-type]


def test_most_of_the_interval_of_fast_is_guided() -> None:
    levels = [step / FAST_STEPS for step in range(FAST_STEPS)]
    assert sum(is_guided(level, FAST_GUIDANCE_INTERVAL) for level in levels) == 8
