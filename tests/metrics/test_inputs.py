from __future__ import annotations

import torch
from PIL import Image

from mgie_lit.metrics.inputs import AVAILABLE, MetricInputs


def inputs() -> MetricInputs:
    red, green, blue = ([Image.new("RGB", (4, 2), color)] for color in ("red", "lime", "blue"))
    return MetricInputs(["a"], red, green, blue, [None], ["do"], ["caption"], ["wrote"], ["reference"])


def test_every_available_name_can_be_selected() -> None:
    selected = inputs().select(AVAILABLE)
    assert set(selected) == set(AVAILABLE)
    assert len(AVAILABLE) == 13


def test_tensors_are_unit_pixels_of_their_images() -> None:
    for name, color in (("preds", 0), ("target", 1), ("source", 2)):
        tensor = getattr(inputs(), name)
        assert tensor.shape == (1, 3, 2, 4)
        assert torch.equal(tensor.amax((0, 2, 3)), torch.eye(3, dtype=torch.float64)[color])


def test_tensors_are_made_once() -> None:
    one = inputs()
    assert one.preds is one.preds
    assert len(one) == 1


def test_descriptions_of_sources_are_rare() -> None:
    assert inputs().source_captions == [None]


def test_tensors_are_exact_255ths() -> None:
    one = MetricInputs(["a"], [Image.new("RGB", (1, 1), (1, 77, 254))], [], [], [None], ["do"], [None], [""], [None])
    assert one.preds.flatten().tolist() == [1 / 255, 77 / 255, 254 / 255]
