from __future__ import annotations

import re
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
import pytest

from mgie_lit.report.curves import MAX_POINTS, Panel, curve_panels, smooth, thin
from mgie_lit.report.read import read_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def panels_of(*folders: Path) -> dict[str, Panel]:
    panels = curve_panels(read_directories(folders)[0])
    assert len({panel.title for panel in panels}) == len(panels)
    return {panel.title: panel for panel in panels}


def test_every_logged_key_has_a_panel(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    panels = panels_of(make_run(tmp_path / "run"))
    assert list(panels) == [
        "loss",
        "loss_lm",
        "loss_edit",
        "val/l1",
        "val/expressive_exact",
        "learning rates",
        "train/grad_norm",
        "train/examples_per_second",
    ]
    assert ">train<" in panels["loss"].svg
    assert ">val<" in panels["loss"].svg
    assert ">copy<" in panels["val/l1"].svg
    assert all(">optimizer step<" in panel.svg for panel in panels.values())
    assert ">nats per token, log<" in panels["loss_lm"].svg


def test_groups_that_share_a_rate_share_a_line(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    svg = panels_of(make_run(tmp_path / "run", 60))["learning rates"].svg
    assert ">embeddings, lm_head, mllm, edit_head<" in svg
    assert ">unet<" in svg


def test_several_runs_share_panels(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    panels = panels_of(make_run(tmp_path / "one", 60), make_run(tmp_path / "two", 80))
    assert ">one, train<" in panels["loss"].svg
    assert ">two, val<" in panels["loss"].svg
    assert "var(--series-1)" in panels["train/grad_norm"].svg
    assert {"learning rates, one", "learning rates, two"} <= set(panels)


def test_svg_is_bare_and_takes_the_pages_colours(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    for panel in panels_of(make_run(tmp_path / "run", 60)).values():
        ElementTree.fromstring(panel.svg)  # well-formed
        assert panel.svg.startswith('<svg role="img" aria-label="')
        assert "http" not in panel.svg
        assert "#abcd" not in panel.svg
        assert "var(--series-0)" in panel.svg


def test_names_inside_the_pictures_do_not_meet(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    seen: set[str] = set()
    for panel in panels_of(make_run(tmp_path / "run", 60)).values():
        own = {element.get("id", "") for element in ElementTree.fromstring(panel.svg).iter()} - {""}
        assert own
        assert not seen & own
        seen |= own


def test_curves_are_the_same_twice(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", 20)
    assert panels_of(run) == panels_of(run)


@pytest.mark.parametrize("rows", ["", "0,0,\n", "0,0,nan\n1,0,inf\n"])
def test_a_run_without_numbers_has_no_panels(tmp_path: Path, make_run: Callable[..., Path], rows: str) -> None:
    run = make_run(tmp_path / "run", 5)
    (run / "metrics.csv").write_text("step,epoch,train/loss\n" + rows)
    assert panels_of(run) == {}


def test_one_point_and_not_finite_values_are_drawn(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    run = make_run(tmp_path / "run", 5)
    (run / "metrics.csv").write_text("step,epoch,train/loss,val/l1\n0,0,2.5,\n1,0,inf,\n1,0,,0.2\n2,0,0,\n")
    assert list(panels_of(run)) == ["loss", "val/l1"]


def test_smoothing_keeps_lines_and_lowers_noise() -> None:
    noise = np.random.default_rng(0).normal(size=500)
    assert smooth(noise, 5.0).std() < 0.4 * noise.std()
    line = np.linspace(3.0, 1.0, 200)
    np.testing.assert_allclose(smooth(line, 3.0)[20:-20], line[20:-20])  # no lag
    np.testing.assert_allclose(smooth(np.ones(7), 50.0), 1.0)
    assert len(smooth(np.ones(1), 50.0)) == 1


def test_long_lines_are_thinned_to_block_means() -> None:
    steps = np.arange(12_345.0)
    fewer, values = thin(steps, 2 * steps)
    assert len(fewer) == MAX_POINTS
    np.testing.assert_allclose(values, 2 * fewer)
    assert np.all(np.diff(fewer) > 0)
    short = np.arange(10.0)
    assert thin(short, short)[0] is short


def test_legends_stand_above_the_curves(tmp_path: Path, make_run: Callable[..., Path]) -> None:
    svg = ElementTree.fromstring(panels_of(make_run(tmp_path / "run"))["learning rates"].svg)
    labels = [float(text.get("y", "")) for text in svg.iter("text") if "unet" in (text.text or "")]
    drawn = [path.get("d", "") for path in svg.iter("path") if path.get("clip-path")]
    top = min(float(y) for path in drawn for y in re.findall(r"[ML] [\d.]+ ([\d.]+)", path))
    assert 0 < labels[0] < top, "less is higher"
