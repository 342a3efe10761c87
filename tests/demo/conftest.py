"""A studio around a model of ten milliseconds, and pictures in its folder."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import torch
from PIL import Image

from mgie_lit.demo.files import Files
from mgie_lit.demo.limits import Limits
from mgie_lit.demo.models import Shelf
from mgie_lit.demo.server import ENVIRONMENT, Server
from mgie_lit.demo.studio import Studio
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import tiny_scheduler

# anyio reads its own parts when they are first asked for, which is in the server's threads. pytest rewrites them on
# the way, because anyio brings a plugin, and Python 3.11 can not parse in two threads at once (CPython issue 106905).
for _name in dir(anyio):
    getattr(anyio, _name)


class FakeModel:
    """Inverts; waits at the gate before each step. Its editor has one layer, as a place to stop at."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.options = SamplingOptions(64, num_inference_steps=30, guidance_scale=2.0, image_guidance_scale=1.2)
        self.layer = torch.nn.Identity()
        self.editor = torch.nn.Module()
        self.editor.scheduler = tiny_scheduler("epsilon")
        self.editor.layers = torch.nn.ModuleList([self.layer])
        self.gate = threading.Event()
        self.gate.set()
        self.calls: list[dict[str, Any]] = []
        self.steps_done = 0
        self.pause = 0.0  # seconds of a step
        self.limit: int | None = None  # steps in all, after which the gate closes by itself

    def __call__(self, image: Image.Image, instruction: str, **settings: Any) -> SimpleNamespace:  # noqa: ANN401
        self.calls.append({"instruction": instruction, **settings})
        self.layer(torch.zeros(1))  # the language model
        steps = settings["num_inference_steps"] or 3
        for step in range(steps):
            if self.steps_done == self.limit:
                self.gate.clear()
            assert self.gate.wait(10)
            self.layer(torch.zeros(1))
            time.sleep(self.pause)
            self.steps_done += 1
            settings["on_step"](step + 1, steps)
        return SimpleNamespace(
            images=[Image.eval(image, lambda value: 255 - value)],
            expressive_instructions=[f"{self.name} read {instruction}"],
        )


@pytest.fixture
def models() -> dict[str, FakeModel]:
    return {name: FakeModel(name) for name in ("first", "second")}


@pytest.fixture
def make_studio(tmp_path: Path, models: dict[str, FakeModel]) -> Iterator[Callable[..., Studio]]:
    made: list[Studio] = []

    def make(**limits: int) -> Studio:
        bounds = Limits(**limits)
        made.append(Studio(Shelf(list(models), tmp_path / "runs", models.__getitem__), Files(bounds), bounds))
        return made[-1]

    yield make
    for model in models.values():
        model.gate.set()
    for studio in made:
        studio.close()


@pytest.fixture
def studio(make_studio: Callable[..., Studio]) -> Studio:
    return make_studio()


@pytest.fixture
def picture(studio: Studio) -> Path:
    return studio.files.save(random_image(20, 12, seed=0))


@pytest.fixture
def server(studio: Studio, free_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The page on a free port of this machine."""
    pytest.importorskip("gradio")
    for name in ENVIRONMENT:
        monkeypatch.setenv(name, "")  # so that it is as before at the end
    server = Server(studio, host="127.0.0.1", port=free_port)
    yield server
    server.close()


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
