from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image, ImageChops

from mgie_lit.demo.engine import StoppedError
from mgie_lit.demo.requests import EditRequest
from mgie_lit.demo.studio import Defaults, Studio
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from conftest import FakeModel


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.002)


def test_edit_with_every_setting(studio: Studio, picture: Path, models: dict[str, FakeModel]) -> None:
    request = EditRequest(
        picture, " invert ", "first", seed=7, preset="fast", steps=2, guidance_scale=3.0, image_guidance_scale=1.1
    )
    (edit,) = studio.edit([request]).result(5)
    assert edit.request is request
    assert edit.expressive_instruction == "first read invert"
    expected = Image.eval(Image.open(picture), lambda value: 255 - value)
    assert ImageChops.difference(Image.open(edit.edited), expected).getbbox() is None
    (call,) = models["first"].calls
    assert call["preset"] == "fast"
    assert (call["num_inference_steps"], call["guidance_scale"], call["image_guidance_scale"]) == (2, 3.0, 1.1)
    assert call["generator"].initial_seed() == 7


def test_several_models_and_seeds_in_one_job(studio: Studio, picture: Path, models: dict[str, FakeModel]) -> None:
    requests = [EditRequest(picture, "go", name, seed) for name in ("first", "second") for seed in (0, 5)]
    job = studio.edit(requests)
    edits = job.result(5)
    assert [(edit.request.model, edit.request.seed) for edit in edits] == [
        ("first", 0), ("first", 5), ("second", 0), ("second", 5),
    ]  # fmt: skip
    assert len({edit.edited for edit in edits}) == 4
    assert job.progress.total == job.progress.done == 12
    assert job.progress.text == "Edit 4 of 4: step 3 of 3"
    assert len(models["second"].calls) == 2


def test_stop_ends_the_computation_between_two_layers(
    studio: Studio, picture: Path, models: dict[str, FakeModel]
) -> None:
    model = models["first"]
    model.gate.clear()
    job = studio.edit([EditRequest(picture, "go", "first", steps=50)])
    wait_for(lambda: bool(model.calls))
    job.stop()
    model.gate.set()
    with pytest.raises(StoppedError):
        job.result(5)
    assert model.steps_done == 0  # the layer's check came before the first step's
    assert not model.layer._forward_pre_hooks  # nothing stays on the model


def test_parts_of_a_comparison_are_there_before_its_end(
    studio: Studio, picture: Path, models: dict[str, FakeModel]
) -> None:
    models["second"].gate.clear()
    job = studio.edit([EditRequest(picture, "go", "first"), EditRequest(picture, "go", "second")])
    wait_for(lambda: bool(models["second"].calls))
    assert [edit.request.model for edit in job.parts] == ["first"]
    models["second"].gate.set()
    assert len(job.result(5)) == 2


def test_defaults_of_a_model(studio: Studio) -> None:
    assert studio.defaults("second").result(5) == Defaults(30, 2.0, 1.2)
    assert studio.defaults("second", "fast").result(5) == Defaults(10, 2.0, 1.2)


def test_known_defaults_need_not_wait(studio: Studio, picture: Path, models: dict[str, FakeModel]) -> None:
    known = studio.defaults("first").result(5)
    models["first"].gate.clear()
    running = studio.edit([EditRequest(picture, "go", "first")])
    assert studio.defaults("first").result(0) == known
    assert not studio.defaults("first", "fast").has_ended
    models["first"].gate.set()
    running.result(5)


def test_defaults_keep_within_the_limits(make_studio: Callable[..., Studio]) -> None:
    assert make_studio(steps=5).defaults("first").result(5).steps == 5


class TestRefused:
    """Before anything waits or runs."""

    def refused(self, studio: Studio, request: EditRequest, message: str) -> None:
        with pytest.raises((ConfigError, DataError), match=message):
            studio.edit([request])

    def test_out_of_range(self, make_studio: Callable[..., Studio]) -> None:
        studio = make_studio(steps=10, characters=5)
        request = EditRequest(studio.files.save(Image.new("RGB", (4, 4))), "go", "first")
        changes = [
            ({"instruction": " "}, "Instruction: expected words, got an empty text"),
            ({"instruction": "darker"}, "Instruction: expected at most 5 characters, got 6"),
            ({"steps": 11}, "Steps: expected a number from 1 to 10, got 11"),
            ({"steps": 0}, "Steps: expected a number from 1 to 10, got 0"),
            ({"seed": -1}, "Seed: expected a number from 0 to 4294967295, got -1"),
            ({"guidance_scale": 31.0}, "Guidance by the instruction: expected a number from 0 to 30, got 31"),
            ({"image_guidance_scale": -1.0}, "Guidance by the picture: expected a number from 0 to 30, got -1"),
            ({"image_guidance_scale": float("nan")}, "Guidance by the picture: expected a number from 0 to 30"),
            ({"preset": "slow"}, "Preset: expected one of plain, fast, got 'slow'"),
            ({"model": "third"}, "Model: expected one of first, second, got 'third'"),
        ]
        for change, message in changes:
            self.refused(studio, replace(request, **change), message)

    def test_all_faults_at_once(self, studio: Studio, picture: Path) -> None:
        self.refused(studio, EditRequest(picture, "", "first", seed=-1), "(?s)Instruction: .*Seed: ")

    def test_too_many(self, make_studio: Callable[..., Studio]) -> None:
        studio = make_studio(grid=2)
        request = EditRequest(studio.files.save(Image.new("RGB", (4, 4))), "go", "first")
        with pytest.raises(ConfigError, match="at most 2 edits at once, got 3; choose fewer models or seeds"):
            studio.edit([request] * 3)
