from __future__ import annotations

from typing import Any, Literal

import pytest
import torch
from diffusers import DDIMScheduler, EulerAncestralDiscreteScheduler
from torch import Tensor

from mgie_lit.editor import Editor
from mgie_lit.functional.guidance import combine_guidance
from mgie_lit.sampling.loop import _guided_prediction, initial_latents, sample_edit
from mgie_lit.testing.tiny_models import CONDITION_DIM, NUM_QUERIES, tiny_editor, tiny_scheduler
from mgie_lit.types import Condition

HEIGHT, WIDTH = 8, 12  # pixels; 4 x 6 latents


@pytest.fixture(scope="module")
def editor() -> Editor:
    return tiny_editor("kl")


def condition(batch: int) -> Condition:
    generator = torch.Generator().manual_seed(1)
    text = torch.randn(batch, NUM_QUERIES, CONDITION_DIM, generator=generator)
    null = torch.randn(1, NUM_QUERIES, CONDITION_DIM, generator=generator)
    return Condition(text=text, null=null, expressive_instructions=[""] * batch)


def images(batch: int, seed: int = 2) -> Tensor:
    return torch.rand(batch, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def sample(editor: Editor, batch: int, latents: Tensor, *, steps: int = 3, scale: float = 1.0, **kwargs: Any) -> Tensor:  # noqa: ANN401
    return sample_edit(
        editor,
        images(batch),
        condition(batch),
        latents,
        num_inference_steps=steps,
        guidance_scale=scale,
        image_guidance_scale=scale,
        **kwargs,
    )


def predict_perfectly(editor: Editor, clean: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ``editor`` know the clean latents and answer as its prediction type asks; all branches alike."""
    alphas_cumprod = editor.scheduler.alphas_cumprod

    def predict(noisy: Tensor, source: Tensor, timesteps: Tensor, condition: Tensor) -> Tensor:
        alpha = alphas_cumprod[timesteps.long()][:, None, None, None]
        target = clean.repeat(len(noisy) // len(clean), 1, 1, 1)
        noise = (noisy - alpha.sqrt() * target) / (1 - alpha).sqrt()
        return {
            "epsilon": noise,
            "sample": target,
            "v_prediction": alpha.sqrt() * noise - (1 - alpha).sqrt() * target,
        }[editor.prediction_type]

    monkeypatch.setattr(editor, "predict", predict)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("scale", [1.0, 7.5])
def test_a_perfect_predictor_recovers_the_target(
    prediction_type: Literal["epsilon", "v_prediction", "sample"],
    steps: int,
    scale: float,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    editor = tiny_editor("kl", prediction_type=prediction_type)
    clean = 0.5 * torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    predict_perfectly(editor, clean, monkeypatch)
    edited = sample(editor, 2, torch.randn_like(clean), steps=steps, scale=scale)
    assert torch.allclose(edited, editor.decode(clean), atol=1e-3)


def test_a_perfect_predictor_recovers_the_pixels_of_a_lossless_codec(monkeypatch: pytest.MonkeyPatch) -> None:
    editor, target = tiny_editor("patch"), images(2, seed=5)
    clean = editor.encode_source(target) / editor.source_scale * editor.latent_scale
    predict_perfectly(editor, clean, monkeypatch)
    for steps in (1, 2, 3, 6):  # with 3, diffusers' DDIM would stop one timestep before the clean latents
        edited = sample(editor, 2, torch.randn_like(clean), steps=steps)
        assert torch.allclose(edited, target, atol=1e-4), steps


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_perfect_predictor_recovers_the_target_with_a_sigma_space_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    """Euler ancestral scales its input, starts from a large sigma and adds noise on the way."""
    editor = tiny_editor("kl")
    editor.scheduler = EulerAncestralDiscreteScheduler.from_config(editor.scheduler.config, timestep_spacing="leading")
    clean = 0.5 * torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    predict_perfectly(editor, clean, monkeypatch)
    edited = sample(editor, 2, torch.randn_like(clean), steps=5, generators=generators(0, 1))
    assert torch.allclose(edited, editor.decode(clean), atol=1e-3)


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_a_sigma_space_scheduler_begins_with_unit_noise_for_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The latents grow by the first sigma and are scaled back before the network sees them."""
    editor, seen = tiny_editor("kl"), []
    editor.scheduler = EulerAncestralDiscreteScheduler.from_config(editor.scheduler.config, timestep_spacing="leading")
    monkeypatch.setattr(editor, "predict", lambda noisy, *_: (seen.append(noisy), torch.zeros_like(noisy))[1])
    latents = torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    sample(editor, 2, latents, steps=2, generators=generators(0, 1))
    assert editor.scheduler.init_noise_sigma > 3
    assert torch.allclose(seen[0], latents, atol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 7])
def test_untrained_affine_head_returns_the_source_in_any_number_of_steps(steps: int) -> None:
    editor = tiny_editor("patch")
    edited = sample(editor, 2, torch.randn(2, 12, HEIGHT // 2, WIDTH // 2), steps=steps)
    assert torch.allclose(edited, images(2), atol=1e-4)


def test_three_branches_go_through_the_network_in_order(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
    original = editor.predict

    def predict(*given: Tensor) -> Tensor:
        calls.append(given)
        return original(*given)

    monkeypatch.setattr(editor, "predict", predict)
    given, source = condition(2), editor.encode_source(images(2))
    latents = torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    edited = sample_edit(
        editor, images(2), given, latents, num_inference_steps=1, guidance_scale=4.0, image_guidance_scale=1.3
    )
    ((noisy, sources, timesteps, conditions),) = calls
    null = given.null.expand(2, -1, -1)
    assert torch.equal(noisy, torch.cat([latents] * 3))
    assert torch.equal(sources, torch.cat([torch.zeros_like(source), source, source]))
    assert torch.equal(conditions, torch.cat([null, null, given.text]))
    assert timesteps.tolist() == [49] * 6
    separate = [(torch.zeros_like(source), null), (source, null), (source, given.text)]
    branches = [original(latents, rows, timesteps[:2], text) for rows, text in separate]
    preds = combine_guidance(torch.stack(branches), guidance_scale=4.0, image_guidance_scale=1.3)
    scheduler = tiny_scheduler("epsilon")
    scheduler.set_timesteps(1)
    assert torch.allclose(edited, editor.decode(scheduler.step(preds, 49, latents).prev_sample), atol=1e-4)


def test_without_guidance_there_is_one_branch(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    original = editor.predict
    monkeypatch.setattr(editor, "predict", lambda *given: (sizes.append(len(given[0])), original(*given))[1])
    sample(editor, 2, torch.randn(2, 4, HEIGHT // 2, WIDTH // 2), steps=3, scale=1.0)
    assert sizes == [2, 2, 2]


@pytest.mark.parametrize(
    ("guidance_scale", "image_guidance_scale", "num_branches"),
    [(7.5, 1.5, 3), (7.5, 7.5, 2), (7.5, 1.0, 2), (0.0, 1.5, 2), (1.0, 1.0, 1), (0.0, 1.0, 1), (0.0, 0.0, 1)],
)
def test_branches_without_weight_are_not_computed(
    editor: Editor,
    monkeypatch: pytest.MonkeyPatch,
    guidance_scale: float,
    image_guidance_scale: float,
    num_branches: int,
) -> None:
    sizes: list[int] = []
    answers = torch.randn(3, 2, 4, 4, 6, generator=torch.Generator().manual_seed(5))

    def predict(noisy: Tensor, source: Tensor, timesteps: Tensor, words: Tensor) -> Tensor:
        sizes.append(len(noisy))
        has_image, has_words = source.flatten(1).any(1), (words[:, 0] != null[0, 0]).any(1)
        return torch.stack(
            [answers[int(a) + int(b), i % 2] for i, (a, b) in enumerate(zip(has_image, has_words, strict=True))]
        )

    given = condition(2)
    null = given.null
    monkeypatch.setattr(editor, "predict", predict)
    scales = {"guidance_scale": guidance_scale, "image_guidance_scale": image_guidance_scale}
    latents = torch.randn(2, 4, 4, 6, generator=torch.Generator().manual_seed(6))
    mixed = _guided_prediction(editor, latents, torch.ones_like(latents), torch.zeros(2), given.text, null, **scales)
    assert sizes == [2 * num_branches]
    torch.testing.assert_close(mixed, combine_guidance(answers, **scales))


def test_scales_change_the_result(editor: Editor) -> None:
    latents = torch.randn(1, 4, HEIGHT // 2, WIDTH // 2)
    assert not torch.allclose(sample(editor, 1, latents), sample(editor, 1, latents, scale=4.0), atol=1e-4)


def test_initial_latents_come_from_each_sample_s_own_generator(editor: Editor) -> None:
    latents = initial_latents(editor, (4, 3, 5), generators(7, 8))
    assert latents.shape == (2, 4, 3, 5)
    for row, seed in enumerate((7, 8)):
        assert torch.equal(latents[row], torch.randn(4, 3, 5, generator=generators(seed)[0]))


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_noise_on_the_way_is_the_sample_s_own() -> None:
    """A stochastic sampler: the result does not depend on who else is in the batch."""
    editor = tiny_editor("kl")
    editor.scheduler = EulerAncestralDiscreteScheduler.from_config(editor.scheduler.config)
    latents = torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    given = condition(2)

    def edit(rows: slice, *seeds: int) -> Tensor:
        part = Condition(given.text[rows], given.null, [""] * len(seeds))
        return sample_edit(
            editor,
            images(2)[rows],
            part,
            latents[rows],
            num_inference_steps=3,
            guidance_scale=2.0,
            image_guidance_scale=1.5,
            generators=generators(*seeds),
        )

    together = edit(slice(2), 11, 12)
    assert torch.allclose(edit(slice(1, 2), 12)[0], together[1], atol=1e-4)
    assert torch.equal(edit(slice(2), 11, 12), together)
    assert not torch.allclose(edit(slice(2), 11, 13)[1], together[1], atol=1e-2)


def test_the_editor_s_scheduler_is_left_as_it_was(editor: Editor) -> None:
    timesteps = editor.scheduler.timesteps.clone()
    assert isinstance(editor.scheduler, DDIMScheduler)
    sample(editor, 1, torch.randn(1, 4, HEIGHT // 2, WIDTH // 2))
    assert torch.equal(editor.scheduler.timesteps, timesteps)
    assert editor.scheduler.num_inference_steps is None


def test_every_step_is_reported(editor: Editor) -> None:
    reports: list[tuple[int, int]] = []
    sample(editor, 1, torch.randn(1, 4, HEIGHT // 2, WIDTH // 2), on_step=lambda *done: reports.append(done))
    assert reports == [(1, 3), (2, 3), (3, 3)]


def test_sampling_keeps_no_graph(editor: Editor) -> None:
    assert not sample(editor, 1, torch.randn(1, 4, HEIGHT // 2, WIDTH // 2)).requires_grad


def test_guidance_everywhere_is_guidance_without_an_interval(editor: Editor) -> None:
    latents = torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    plain = sample(editor, 2, latents, scale=4.0)
    assert torch.equal(sample(editor, 2, latents, scale=4.0, guidance_interval=(0.0, 1.0)), plain)


def test_outside_the_interval_only_the_prediction_with_image_and_text_is_made(
    editor: Editor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[int, int]] = []
    original = editor.predict

    def predict(*given: Tensor) -> Tensor:
        calls.append((int(given[2][0]), len(given[0])))
        return original(*given)

    monkeypatch.setattr(editor, "predict", predict)
    latents = torch.randn(2, 4, HEIGHT // 2, WIDTH // 2)
    cut = sample(editor, 2, latents, steps=5, scale=4.0, guidance_interval=(0.4, 0.7))
    assert calls == [(49, 2), (39, 2), (29, 4), (19, 2), (9, 2)]  # of 50 timesteps: 29 is at 0.58, 19 at 0.38
    assert not torch.allclose(cut, sample(editor, 2, latents, steps=5, scale=4.0), atol=1e-4)
    never = sample(editor, 2, latents, steps=5, scale=4.0, guidance_interval=(0.21, 0.35))
    assert torch.equal(never, sample(editor, 2, latents, steps=5, scale=1.0))


def test_one_image_and_one_condition_hold_for_all_latents(editor: Editor) -> None:
    latents = torch.randn(3, 4, HEIGHT // 2, WIDTH // 2)
    one = condition(1)
    repeated = Condition(one.text.repeat(3, 1, 1), one.null, [""] * 3)
    settings: dict[str, Any] = {"num_inference_steps": 2, "guidance_scale": 3.0, "image_guidance_scale": 1.5}
    shared = sample_edit(editor, images(1), one, latents, **settings)
    assert torch.allclose(
        shared, sample_edit(editor, images(1).repeat(3, 1, 1, 1), repeated, latents, **settings), atol=1e-5
    )
