from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import EulerAncestralDiscreteScheduler
from PIL import Image

from mgie_lit.editor import Editor
from mgie_lit.errors import ConfigError
from mgie_lit.sampling.edit import SamplingOptions, edit_images
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.types import EditedImage

OPTIONS = SamplingOptions(resolution=16, num_inference_steps=2, guidance_scale=2.0, image_guidance_scale=1.5)
SIZES = [(16, 16), (37, 11), (1, 1), (16, 16), (5, 90)]


@pytest.fixture(scope="module")
def editor() -> Editor:
    return tiny_editor("kl")


@pytest.fixture(scope="module")
def copier() -> Editor:
    """An untrained system of the small kind: it copies the source."""
    return tiny_editor("patch")


def edit(editor: Editor, sources: list[Image.Image], *seeds: int, **kwargs: Any) -> list[EditedImage]:  # noqa: ANN401
    options = replace(OPTIONS, **kwargs)
    instructions = [f"make it {'much ' * index}warmer" for index in range(len(sources))]
    return edit_images(
        editor,
        sources,
        instructions,
        options=options,
        generators=[torch.Generator().manual_seed(seed) for seed in seeds],
    )


def pixels(edited: EditedImage) -> np.ndarray:
    return np.asarray(edited.image, dtype=int)


@pytest.mark.parametrize("transfer", ["resize", "guided"])
def test_images_of_all_sizes_come_back_in_their_size_and_order(editor: Editor, transfer: str) -> None:
    sources = [random_image(*size, seed=index) for index, size in enumerate(SIZES)]
    edited = edit(editor, sources, *range(5), transfer=transfer)
    assert [result.image.size for result in edited] == SIZES
    assert {result.image.mode for result in edited} == {"RGB"}
    assert all(isinstance(result.expressive_instruction, str) for result in edited)


def test_a_result_does_not_depend_on_its_neighbours(editor: Editor) -> None:
    """Neither on those in its batch nor on those of other sizes; rounding may move a value by one."""
    sources = [random_image(*size, seed=index) for index, size in enumerate(SIZES)]
    together = edit(editor, sources, *range(5))
    for index in (0, 2, 3):
        alone = edit_images(
            editor,
            [sources[index]],
            [f"make it {'much ' * index}warmer"],
            options=OPTIONS,
            generators=[torch.Generator().manual_seed(index)],
        )
        assert np.abs(pixels(alone[0]) - pixels(together[index])).max() <= 1
        assert alone[0].expressive_instruction == together[index].expressive_instruction


@pytest.mark.filterwarnings("ignore:__array__ implementation")
def test_nor_does_it_with_a_sampler_that_adds_noise() -> None:
    editor = tiny_editor("kl")
    editor.scheduler = EulerAncestralDiscreteScheduler.from_config(editor.scheduler.config)
    source = random_image(16, 16, seed=0)
    together = edit(editor, [source, source], 1, 2)
    other = edit(editor, [source, source], 3, 2)
    assert np.abs(pixels(together[0]) - pixels(other[0])).max() > 10
    assert np.array_equal(pixels(together[1]), pixels(other[1]))


def test_same_seed_same_image_and_another_seed_another(editor: Editor) -> None:
    source = [random_image(16, 16, seed=0)]
    first, again, other = (pixels(edit(editor, source, seed)[0]) for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert np.abs(first - other).max() > 10


def test_torch_s_global_state_is_neither_used_nor_moved(editor: Editor) -> None:
    source = [random_image(16, 16, seed=0)]
    torch.manual_seed(0)
    first = pixels(edit(editor, source, 3)[0])
    torch.manual_seed(1)
    state = torch.get_rng_state()
    assert np.array_equal(pixels(edit(editor, source, 3)[0]), first)
    assert torch.equal(torch.get_rng_state(), state)


def test_an_untrained_copier_copies_at_the_working_size(copier: Editor) -> None:
    sources = [random_image(16, 16, seed=0), random_image(16, 16, seed=1)]
    edited = edit(copier, sources, 0, 1, guidance_scale=1.0, image_guidance_scale=1.0)
    for source, result in zip(sources, edited, strict=True):
        assert np.array_equal(np.asarray(source), np.asarray(result.image))


def test_guided_transfer_keeps_the_detail_that_resizing_loses(copier: Editor) -> None:
    """The copy of a large image: sharp by the guided way, a blurred thumbnail by the other."""
    source = random_image(60, 44, seed=0)
    errors = {}
    for transfer in ("guided", "resize"):
        (result,) = edit(copier, [source], 0, guidance_scale=1.0, image_guidance_scale=1.0, transfer=transfer)
        errors[transfer] = np.abs(pixels(result) - np.asarray(source, dtype=int)).mean()
    assert errors["guided"] < 1
    assert errors["resize"] > 20


def test_latents_replace_the_generators_noise(editor: Editor) -> None:
    sources = [random_image(16, 16, seed=0), random_image(16, 16, seed=1)]
    drawn = edit(editor, sources, 5, 6)
    latents = torch.stack([torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in (5, 6)])
    generators = [torch.Generator().manual_seed(0)] * 2
    given = edit_images(
        editor,
        sources,
        ["make it warmer", "make it much warmer"],
        options=OPTIONS,
        generators=generators,
        latents=latents,
    )
    for one, other in zip(drawn, given, strict=True):
        assert np.array_equal(pixels(one), pixels(other))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 4, 8, 6), r"latents: expected shape \(1, 4, 8, 8\), got \(1, 4, 8, 6\)"),
        ((2, 4, 8, 8), r"latents: expected one for each of 1 images, got shape \(2, 4, 8, 8\)"),
    ],
)
def test_latents_have_to_fit(editor: Editor, shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        edit_images(
            editor,
            [random_image(16, 16, seed=0)],
            ["warmer"],
            options=OPTIONS,
            generators=[torch.Generator()],
            latents=torch.zeros(shape),
        )


def test_numbers_of_images_instructions_and_generators_have_to_agree(editor: Editor) -> None:
    with pytest.raises(ValueError, match=r"as many instructions and generators as images \(1\), got 2 and 1"):
        edit_images(editor, [random_image(4, 4, seed=0)], ["a", "b"], options=OPTIONS, generators=[torch.Generator()])


def test_no_images_no_edits(editor: Editor) -> None:
    assert edit(editor, []) == []


def test_steps_of_every_batch_are_reported(editor: Editor) -> None:
    reports: list[tuple[int, int]] = []
    edit_images(
        editor,
        [random_image(16, 16, seed=0), random_image(40, 16, seed=0)],
        ["warmer", "cooler"],
        options=OPTIONS,
        generators=[torch.Generator(), torch.Generator()],
        on_step=lambda *done: reports.append(done),
    )
    assert reports == [(1, 2), (2, 2)] * 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: expected an integer >= 1, got 0"),
        ({"guidance_scale": -1.0}, "guidance_scale: expected a number >= 0, got -1.0"),
        ({"image_guidance_scale": float("nan")}, "image_guidance_scale: expected a number >= 0, got nan"),
        ({"transfer": "blur"}, "transfer: expected one of guided, resize, got 'blur'"),
    ],
)
def test_options_are_checked(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, **changes)


@pytest.mark.faults
def test_more_steps_than_timesteps_are_refused_before_anything_is_made(editor: Editor) -> None:
    reports: list[tuple[int, int]] = []
    message = r"num_inference_steps: expected at most 50, the timesteps that the model was trained on, got 51$"
    with pytest.raises(ConfigError, match=message):
        edit_images(
            editor,
            [random_image(16, 16, seed=0)],
            ["warmer"],
            options=replace(OPTIONS, num_inference_steps=51),
            generators=[torch.Generator()],
            on_step=lambda *done: reports.append(done),
        )
    assert reports == []


def test_as_many_steps_as_timesteps(editor: Editor) -> None:
    reports: list[tuple[int, int]] = []
    edit_images(
        editor,
        [random_image(8, 8, seed=0)],
        ["warmer"],
        options=replace(OPTIONS, num_inference_steps=50),
        generators=[torch.Generator()],
        on_step=lambda *done: reports.append(done),
    )
    assert len(reports) == 50


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"solver": "heun"}, "solver: expected one of ddim, dpm_solver, unipc or null, got 'heun'"),
        (
            {"guidance_interval": [0.5, 0.2]},
            "guidance_interval: expected two numbers, 0 <= low < high <= 1, got 0.5, 0.2",
        ),
        ({"guidance_interval": (0.1, 1.2)}, r"got 0\.1, 1\.2; scales of 1 turn guidance off"),
        ({"guidance_interval": (0.1,)}, r"got 0\.1; scales of 1 turn guidance off"),
    ],
)
def test_how_to_walk_is_checked(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(OPTIONS, **change)


def test_the_solver_is_used() -> None:
    editor = tiny_editor("kl")
    plain, other = (
        edit(editor, [random_image(16, 16, seed=0)], 1, num_inference_steps=8, solver=solver)[0]
        for solver in (None, "dpm_solver")
    )
    assert np.abs(pixels(plain) - pixels(other)).max() > 5


def test_seeds_of_one_request_share_what_the_guide_says(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, list[str]]] = []
    encoded: list[int] = []
    condition, encode = editor.guide.condition, editor.encode_source
    monkeypatch.setattr(
        editor.guide, "condition", lambda seen, words: (asked.append((len(seen), words)), condition(seen, words))[1]
    )
    monkeypatch.setattr(editor, "encode_source", lambda batch: (encoded.append(len(batch)), encode(batch))[1])
    image = random_image(16, 16, seed=0)

    def run(words: list[str], *seeds: int) -> list[EditedImage]:
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        return edit_images(editor, [image] * len(words), words, options=OPTIONS, generators=generators)

    together = run(["warmer", "cooler", "warmer", "warmer"], 1, 2, 3, 1)
    assert asked == [(2, ["warmer", "cooler"])]
    assert encoded == [1]
    for words, seed, result in zip(["warmer", "cooler", "warmer", "warmer"], [1, 2, 3, 1], together, strict=True):
        (alone,) = run([words], seed)
        assert np.abs(pixels(alone) - pixels(result)).max() <= 1
        assert alone.expressive_instruction == result.expressive_instruction
    assert np.abs(pixels(together[0]) - pixels(together[2])).max() > 1
