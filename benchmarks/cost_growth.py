"""How cost grows: a training step with batch, sequence and resolution, evaluation with samples, an index with rows.

    OMP_NUM_THREADS=1 python benchmarks/cost_growth.py --markdown growth.md

CPU seconds of one thread. The points of a curve take turns, and the median of the rounds counts. The exponent is that
between the two largest points: 1 = twice as much costs twice as much, 2 = four times; below 1 a part of the cost is
fixed. With ``--markdown FILE`` the page and, beside it, its plot are written.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from index import write_prompts
from shared.origin import command_of, environment, origin, write_files
from step_sides.case import EXPRESSIVE, Case, case_config, fill_case
from step_sides.sides import adamw, our_step, run_step

from mgie_lit.config.build import build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.config.run import evaluate_run
from mgie_lit.data.readers.ipr2pr import IPr2Pr

BATCH_SIZES = (1, 2, 4, 8)
REPEATED = (1, 4, 8, 16)  # how often the expressive instruction is said, for longer sequences
SIDES_OF_OWN = (0.5, 1.0, 1.5, 2.0)  # of the size's own resolution
SAMPLES = (25, 50, 100, 200)
PROMPTS = (5_000, 10_000, 20_000, 40_000)  # of fewer no index is kept
LONGEST = 2048  # tokens of a row


@dataclass
class Curve:
    """Cost over one quantity."""

    name: str
    unit: str
    calls: dict[int, Callable[[], object]]  # by the quantity
    cpu_s: dict[int, list[float]] = field(default_factory=dict)

    def measure(self, rounds: int, *, warm: bool) -> None:
        """Let the points take turns.

        Args:
            rounds: That count.
            warm: Whether one more goes before them.
        """
        self.cpu_s = {point: [] for point in self.calls}
        for count in range(-warm, rounds):
            for point, call in self.calls.items():
                start = time.process_time()
                call()
                if count >= 0:
                    self.cpu_s[point].append(time.process_time() - start)

    @property
    def medians(self) -> dict[int, float]:
        """CPU seconds of each point."""
        return {point: float(np.median(values)) for point, values in self.cpu_s.items()}

    @property
    def exponent(self) -> float:
        """Of a power law through the two largest points."""
        (x, y), (large_x, large_y) = list(self.medians.items())[-2:]
        return math.log(large_y / y) / math.log(large_x / x)


def step_curves(size: str) -> list[Curve]:
    """A training step as the default has it: no caches, all rows of the word embeddings."""
    config = case_config(size, f"size.prompt.max_length={LONGEST}")
    torch.manual_seed(0)
    editor = build_editor(config)
    own = int(config.size.resolution)

    def call(case: Case) -> Callable[[], object]:
        losses, optimizer = our_step(case), optimizers.setdefault("adamw", adamw(case, fused=True))
        return lambda: run_step(case, losses, optimizer)

    optimizers: dict[str, torch.optim.Optimizer] = {}
    batches = {count: fill_case(editor, config, count) for count in BATCH_SIZES}
    longer = [fill_case(editor, config, 1, " ".join([EXPRESSIVE] * count)) for count in REPEATED]
    sides = [round(factor * own) for factor in SIDES_OF_OWN]
    larger = {
        side: fill_case(editor, case_config(size, f"size.prompt.max_length={LONGEST}", f"size.resolution={side}"), 1)
        for side in sides
    }
    return [
        Curve(f"training step over batch, {own} px", "examples", {n: call(case) for n, case in batches.items()}),
        Curve(
            "training step over sequence, batch 1",
            "tokens",
            {case.batch.input_ids.shape[1]: call(case) for case in longer},
        ),
        Curve("training step over resolution, batch 1", "px", {side: call(case) for side, case in larger.items()}),
    ]


def evaluation_curve(folder: Path) -> Curve:
    """Edits of the shipped weights, four steps each, and their pixel metrics with intervals."""

    def call(count: int) -> Callable[[], object]:
        def run() -> None:
            with tempfile.TemporaryDirectory(dir=folder) as place:
                overrides = ["checkpoint=tiny", "device=cpu", f"data.num_examples.test={count}"]
                evaluate_run(compose_config("eval", [*overrides, f"paths.run_dir={place}/eval"]))

        return run

    return Curve("evaluation over samples", "samples", {count: call(count) for count in SAMPLES})


def index_curves(folder: Path) -> list[Curve]:
    """An index of prompts in the layout of IPr2Pr's authors: built, and opened when it is there."""

    def build(count: int) -> Callable[[], object]:
        def run() -> None:
            root = Path(tempfile.mkdtemp(dir=folder))
            write_prompts(root, count)
            start = time.process_time()
            IPr2Pr("train", root=root)
            building.cpu_s[count].append(time.process_time() - start)
            roots[count] = root

        return run

    def open_again(count: int) -> Callable[[], object]:
        return lambda: IPr2Pr("train", root=roots[count])

    roots: dict[int, Path] = {}
    building = Curve(
        "index over prompts, built", "prompts", {count: build(count) for count in PROMPTS}, {n: [] for n in PROMPTS}
    )
    opening = Curve("index over prompts, opened", "prompts", {count: open_again(count) for count in PROMPTS})
    return [building, opening]


def measure(size: str, rounds: int) -> list[Curve]:
    """All curves.

    Args:
        size: Option of ``size``, of the training step.
        rounds: How often all points of a curve take turns.
    """
    curves = step_curves(size)
    with tempfile.TemporaryDirectory() as folder:
        curves.append(evaluation_curve(Path(folder)))
        for curve in curves:
            curve.measure(rounds, warm=True)
        building, opening = index_curves(Path(folder))
        for _ in range(rounds + 1):
            for call in building.calls.values():
                call()  # it takes its own time, without that of writing the prompts
        building.cpu_s = {count: values[1:] for count, values in building.cpu_s.items()}
        opening.measure(rounds, warm=True)
    return [*curves, building, opening]


def render(curves: Sequence[Curve]) -> str:
    """A row a curve, as Markdown."""
    lines = ["| cost | CPU seconds | exponent at the end |", "| --- | --- | --- |"]
    for curve in curves:
        points = ", ".join(f"{point:,} {curve.unit}: {cost:.3g}" for point, cost in curve.medians.items())
        lines.append(f"| {curve.name} | {points} | {curve.exponent:.2f} |")
    return "\n".join(lines)


def render_page(curves: Sequence[Curve], *, size: str, rounds: int, command: str, plot: str) -> str:
    """The page of ``docs/benchmarks``."""
    env = environment()
    return "\n\n".join(
        [
            f"# How cost grows, {env['month']}",
            origin(env, command),
            f"Medians of {rounds} rounds in which the points of a curve take turns. The training step is that of "
            f"`size={size}` with `trainable=paper` and no caches. The exponent is that between the two largest points: "
            "1 = twice as much costs twice as much; below 1 a part of the cost is fixed.",
            render(curves),
            f"![Six curves on logarithmic axes]({plot})",
        ]
    )


def draw(curves: Sequence[Curve], path: Path) -> None:
    """The plot: one panel a curve, logarithmic, with the line of exponent 1 through the largest point."""
    mpl.use("agg")
    from matplotlib import pyplot as plt
    from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

    figure, axes = plt.subplots(2, 3, figsize=(11, 6.4), layout="constrained")
    for axis, curve in zip(axes.flat, curves, strict=True):
        points, costs = zip(*curve.medians.items(), strict=True)
        axis.loglog(points, [costs[-1] * point / points[-1] for point in points], "--", color="0.7", label="exponent 1")
        axis.loglog(points, costs, "o-", color="#2563eb", label=f"measured, {curve.exponent:.2f} at the end")
        axis.set_title(curve.name, fontsize=10)
        axis.set_xlabel(curve.unit)
        axis.set_ylabel("CPU seconds")
        axis.xaxis.set_major_locator(FixedLocator(points))
        axis.xaxis.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
        for which in ("set_major_formatter", "set_minor_formatter"):
            getattr(axis.yaxis, which)(StrMethodFormatter("{x:g}"))
        axis.grid(visible=True, color="0.92")
        axis.legend(fontsize=8, frameon=False)
    figure.savefig(path, dpi=90)
    plt.close(figure)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="medium", choices=("tiny", "medium"), help="of the training step")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each point")
    parser.add_argument("--markdown", type=Path, help="write the page to this file and the plot beside it")
    options = parser.parse_args()
    torch.set_num_threads(1)
    curves = measure(options.size, options.rounds)
    print(render(curves))
    if options.markdown is None:
        return
    plot = options.markdown.with_suffix(".png")
    command = "OMP_NUM_THREADS=1 " + command_of(__file__)
    page = render_page(curves, size=options.size, rounds=options.rounds, command=command, plot=plot.name)
    write_files({options.markdown: page})
    draw(curves, plot)


if __name__ == "__main__":
    main()
