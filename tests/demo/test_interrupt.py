from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from PIL import ImageChops

from mgie_lit.demo.engine import StoppedError
from mgie_lit.demo.interrupt import checked_layers
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.call import MGIEPipelineOutput
from mgie_lit.testing.random_data import random_image


class Countdown:
    """Raises at the n-th call."""

    def __init__(self, at: int | None = None) -> None:
        self.at, self.num_calls = at, 0

    def __call__(self) -> None:
        self.num_calls += 1
        if self.num_calls == self.at:
            raise StoppedError("stopped")


def edit(pipeline: MGIEPipeline, check: Callable[[], None], steps: list[int]) -> MGIEPipelineOutput:
    with checked_layers(pipeline.editor, check):
        return pipeline(
            random_image(60, 40, seed=0),
            "make it brighter",
            num_inference_steps=3,
            generator=torch.Generator().manual_seed(0),
            on_step=lambda done, _: steps.append(done),
        )


def test_an_edit_ends_at_any_layer_and_leaves_the_model_as_it_was() -> None:
    pipeline = MGIEPipeline.from_pretrained("tiny")
    whole, steps = Countdown(), list[int]()
    expected = edit(pipeline, whole, steps)
    assert steps == [1, 2, 3]
    assert whole.num_calls > 30
    num_before_steps = 0
    for at in (1, 2, whole.num_calls // 4, whole.num_calls // 2, whole.num_calls):
        pipeline.memory = ImageMemory()  # as at the start
        steps = []
        with pytest.raises(StoppedError):
            edit(pipeline, Countdown(at), steps)
        assert len(steps) < 3
        num_before_steps += not steps
        again = edit(pipeline, Countdown(), [])
        assert again.expressive_instructions == expected.expressive_instructions
        assert ImageChops.difference(again.images[0], expected.images[0]).getbbox() is None
    assert num_before_steps >= 2  # also while the MLLM reads and writes
    assert not any(module._forward_pre_hooks for module in pipeline.editor.modules())
