from __future__ import annotations

from pathlib import Path

import cost_growth
import pytest
from cost_growth import Curve


def curve(exponent: float) -> Curve:
    costs = {point: [point**exponent, 2 * point**exponent, 3 * point**exponent] for point in (10, 20, 40)}
    return Curve(f"a cost of exponent {exponent}", "things", {}, costs)


@pytest.mark.parametrize("exponent", [0.5, 1.0, 2.0])
def test_exponent_is_that_of_the_medians(exponent: float) -> None:
    assert curve(exponent).exponent == pytest.approx(exponent)
    assert curve(exponent).medians[20] == pytest.approx(2 * 20**exponent)


def test_points_take_turns_and_the_first_round_does_not_count() -> None:
    called: list[int] = []
    one = Curve("a cost", "things", {point: lambda point=point: called.append(point) for point in (1, 2)})
    one.measure(2, warm=True)
    assert called == [1, 2] * 3
    assert {point: len(values) for point, values in one.cpu_s.items()} == {1: 2, 2: 2}


def test_page_and_plot_show_every_curve(tmp_path: Path) -> None:
    curves = [curve(1 + index / 10) for index in range(6)]
    page = cost_growth.render_page(
        curves, size="tiny", rounds=3, command="python benchmarks/cost_growth.py", plot="a.png"
    )
    assert [line for line in page.splitlines() if line.startswith("| a cost of")] == [
        line for line in cost_growth.render(curves).splitlines() if line.startswith("| a cost of")
    ]
    cost_growth.draw(curves, tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_a_step_of_each_point_has_its_own_size() -> None:
    batch, sequence, resolution = cost_growth.step_curves("tiny")
    assert list(batch.calls) == list(cost_growth.BATCH_SIZES)
    assert list(resolution.calls) == [32, 64, 96, 128]
    lengths = list(sequence.calls)
    assert lengths == sorted(lengths)
    assert lengths[-1] > 4 * lengths[0]
    resolution.measure(1, warm=False)
    assert all(cost > 0 for cost in resolution.medians.values())


def test_an_index_is_built_and_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost_growth, "PROMPTS", (20, 40))
    building, opening = cost_growth.index_curves(tmp_path)
    for call in (*building.calls.values(), *opening.calls.values()):
        call()
    assert all(len(values) == 1 for values in building.cpu_s.values())
