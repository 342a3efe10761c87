"""Curves of training runs as inline SVG that takes its colours from the page's style sheet."""

from __future__ import annotations

import io
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    import pandas as pd
    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from mgie_lit.report.read import TrainingRun

NUM_COLOURS = 8  # --series-0 .. --series-7 of the style sheet; more lines take them in turn
WIDTH, HEIGHT = 3.9, 2.5  # inches; the page scales the picture to its column
FONT_SIZE = 10  # points
LETTER_WIDTH = 0.5  # of the font size, on average
LEGEND_MARK = 5  # letters that a line and the gap after it take
LEGEND_ROW = 0.17  # inches
POINTS_PER_INCH = 72
MAX_POINTS = 500  # of one line; longer ones are averaged in blocks
SMOOTHING_SHARE = 1 / 100  # of the logged rows: standard deviation of the moving average
LOG_RATIO = 30.0  # a loss that falls by more than this gets a logarithmic axis

# Colours that stand for variables of the style sheet until the SVG is written.
_INK, _GRID = "#abcd00", "#abcd01"
_VARIABLES = {_INK: "var(--soft-ink)", _GRID: "var(--line)"} | {
    f"#abcd{16 + index:02x}": f"var(--series-{index})" for index in range(NUM_COLOURS)
}

_UNITS = {
    "loss": "weighted sum",
    "loss_lm": "nats per token",
    "loss_edit": "mean square",
    "loss_align": "mean square",
    "grad_norm": "norm before clipping",
    "examples_per_second": "examples / s",
    "psnr": "dB",
}
RATE_UNIT = "learning rate"
_LOSS_ORDER = ("loss", "loss_lm", "loss_edit", "loss_align")

Style = Literal["smoothed", "plain", "points", "baseline"]


@dataclass(frozen=True)
class Line:
    """One line of a panel."""

    label: str
    steps: NDArray[np.float64]
    values: NDArray[np.float64]
    colour: int
    style: Style  # smoothed: with its raw values faint; points: marked; baseline: dashed


@dataclass(frozen=True)
class Panel:
    """A small picture with a title."""

    title: str
    svg: str  # an <svg> element


def curve_panels(runs: Sequence[TrainingRun]) -> list[Panel]:
    """All curves of all runs: losses, validation metrics, learning rates, and what else was logged.

    With one run a panel shows training and validation in two colours; with several each run has its own colour.
    """
    keys = list(dict.fromkeys(key for run in runs for key in run.curves.columns if _has_values(runs, key)))
    losses = sorted({_base(key) for key in keys if _is_loss(key)}, key=_loss_position)
    rates = [key for key in keys if _is_rate(key)]
    metrics = [key for key in keys if _is_metric(key)]
    taken = {*rates, *metrics, *(key for key in keys if _is_loss(key) or _is_copy(key)), "step", "epoch"}
    panels = [_panel(base, _loss_lines(runs, base), _unit(base)) for base in losses]
    panels += [_panel(key, _metric_lines(runs, key), _unit(_base(key))) for key in metrics]
    panels += [_rate_panel(run, rates, several=len(runs) > 1) for run in runs if _has_values([run], *rates)]
    return panels + [_panel(key, _plain_lines(runs, key), _unit(_base(key))) for key in keys if key not in taken]


# ---- which key goes where


def _has_values(runs: Iterable[TrainingRun], *keys: str) -> bool:
    return any(key in run.curves and run.curves[key].notna().any() for run in runs for key in keys)


def _base(key: str) -> str:
    return key.partition("/")[2] or key


def _is_loss(key: str) -> bool:
    return _base(key).startswith("loss")


def _is_rate(key: str) -> bool:
    return _base(key).startswith(("lr_", "lr-")) or _base(key) == "lr"


def _is_copy(key: str) -> bool:
    return _base(key).startswith("copy_")


def _is_metric(key: str) -> bool:
    return key.startswith(("val/", "test/")) and not (_is_loss(key) or _is_copy(key) or _is_rate(key))


def _loss_position(base: str) -> tuple[int, str]:
    return (_LOSS_ORDER.index(base) if base in _LOSS_ORDER else len(_LOSS_ORDER), base)


def _unit(base: str) -> str:
    return _UNITS.get(base, base)


# ---- lines of a panel


def _loss_lines(runs: Sequence[TrainingRun], base: str) -> list[Line]:
    lines = []
    for index, run in enumerate(runs):
        for offset, stage in enumerate(("train", "val")):
            name = f"{run.name}, {stage}" if len(runs) > 1 else stage
            colour = index if len(runs) > 1 else offset
            lines += _line(run.curves, f"{stage}/{base}", name, colour, "smoothed" if stage == "train" else "points")
    return lines


def _metric_lines(runs: Sequence[TrainingRun], key: str) -> list[Line]:
    stage, _, base = key.partition("/")
    lines = []
    for index, run in enumerate(runs):
        suffix = f"{run.name}, " if len(runs) > 1 else ""
        lines += _line(run.curves, key, f"{suffix}model", index, "points")
        if index == 0 or not lines:
            lines += _line(run.curves, f"{stage}/copy_{base}", "copy", index, "baseline")
    return lines


def _plain_lines(runs: Sequence[TrainingRun], key: str) -> list[Line]:
    return [line for index, run in enumerate(runs) for line in _line(run.curves, key, run.name, index, "smoothed")]


def _rate_panel(run: TrainingRun, keys: Sequence[str], *, several: bool) -> Panel:
    """Learning rates of all parameter groups; groups that share a rate share a line."""
    shared: dict[tuple[float, ...], Line] = {}
    for key in keys:
        for line in _line(run.curves, key, _base(key).removeprefix("lr_"), len(shared), "plain"):
            same = shared.get(tuple(line.values))
            label = f"{same.label}, {line.label}" if same else line.label
            shared[tuple(line.values)] = Line(label, line.steps, line.values, (same or line).colour, "plain")
    return _panel(f"learning rates, {run.name}" if several else "learning rates", list(shared.values()), RATE_UNIT)


def _line(curves: pd.DataFrame, key: str, label: str, colour: int, style: Style) -> list[Line]:
    """No line where nothing finite was logged."""
    if key not in curves:
        return []
    logged = curves[["step", key]].to_numpy(np.float64)
    logged = logged[np.isfinite(logged).all(axis=1)]
    return [Line(label, logged[:, 0], logged[:, 1], colour, style)] if len(logged) else []


def smooth(values: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """Moving average with a Gaussian window; centred, so that a falling curve is not shown late.

    Args:
        values: In the order of the steps.
        width: Standard deviation of the window in values; below 1/2 nothing changes.

    Returns:
        As many values.

    >>> smooth(np.array([1.0, 1.0, 4.0]), 0.1).tolist()
    [1.0, 1.0, 4.0]
    """
    if width < 0.5:
        return values
    reach = min(int(np.ceil(3 * width)), len(values) - 1)
    window = np.exp(-0.5 * (np.arange(-reach, reach + 1) / width) ** 2)
    inside = slice(reach, reach + len(values))
    averaged: NDArray[np.float64] = (
        np.convolve(values, window)[inside] / np.convolve(np.ones_like(values), window)[inside]
    )
    return averaged


def thin(steps: NDArray[np.float64], values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of equal blocks, so that at most ``MAX_POINTS`` remain."""
    if len(steps) <= MAX_POINTS:
        return steps, values
    edges = np.linspace(0, len(steps), MAX_POINTS + 1).astype(int)[:-1]
    counts = np.diff([*edges, len(steps)])
    return np.add.reduceat(steps, edges) / counts, np.add.reduceat(values, edges) / counts


# ---- drawing


def _panel(title: str, lines: Sequence[Line], ylabel: str) -> Panel:
    style: dict[Any, Any] = {
        "svg.fonttype": "none",  # text stays text, in the page's font
        "svg.hashsalt": title,  # the same report twice is the same file
        "font.size": FONT_SIZE,
        "font.family": "sans-serif",
        "axes.edgecolor": _GRID,
        "axes.labelcolor": _INK,
        "text.color": _INK,
        "xtick.color": _INK,
        "ytick.color": _INK,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.formatter.useoffset": False,
    }
    with mpl.rc_context(style):
        figure = Figure(figsize=(WIDTH, HEIGHT), layout="constrained")
        figure.patch.set_visible(False)
        axes = figure.add_subplot()
        axes.patch.set_visible(False)
        for line in lines:
            _draw(axes, line)
        _finish(axes, lines, ylabel)
        if len(lines) > 1:
            _add_legend(figure, axes)
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return Panel(title, _inline_svg(buffer.getvalue(), title))


def _draw(axes: Axes, line: Line) -> None:
    colour = f"#abcd{16 + line.colour % NUM_COLOURS:02x}"
    if line.style == "smoothed":
        axes.plot(*thin(line.steps, line.values), color=colour, alpha=0.25, linewidth=0.8)
        averaged = smooth(line.values, SMOOTHING_SHARE * len(line.values))
        axes.plot(*thin(line.steps, averaged), color=colour, linewidth=1.6, label=line.label)
    elif line.style == "points":
        steps, values = thin(line.steps, line.values)
        every = 1 + len(steps) // 40
        axes.plot(steps, values, color=colour, linewidth=1.4, marker="o", markevery=every, ms=3.5, label=line.label)
    elif line.style == "baseline":
        axes.plot(*thin(line.steps, line.values), color=_INK, linewidth=1.2, linestyle=(0, (4, 3)), label=line.label)
    else:
        axes.plot(*thin(line.steps, line.values), color=colour, linewidth=1.6, label=line.label)


def _finish(axes: Axes, lines: Sequence[Line], ylabel: str) -> None:
    values = np.concatenate([line.values for line in lines])
    is_log = values.min() > 0 and values.max() / values.min() > LOG_RATIO and ylabel != RATE_UNIT
    if is_log:
        axes.set_yscale("log")
    else:
        axes.ticklabel_format(axis="y", scilimits=(-3, 5))
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"{ylabel}, log" if is_log else ylabel)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.grid(visible=True, color=_GRID, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", length=0)


def _add_legend(figure: Figure, axes: Axes) -> None:
    """Above the axes, where no curve is; the figure grows by its rows."""
    handles, labels = axes.get_legend_handles_labels()
    letters = WIDTH * POINTS_PER_INCH / (LETTER_WIDTH * FONT_SIZE)
    columns = min(len(labels), max(1, int(letters / (max(map(len, labels)) + LEGEND_MARK))))
    figure.set_figheight(HEIGHT + math.ceil(len(labels) / columns) * LEGEND_ROW)
    figure.legend(
        handles, labels, loc="outside upper left", ncols=columns, frameon=False, fontsize=FONT_SIZE - 1, borderpad=0
    )


def _inline_svg(document: str, title: str) -> str:
    """The bare element: no prologue, links or metadata, colours from the style sheet, a name for screen readers."""
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", svg)  # figure_1 and the like: once a page is all HTML allows
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = re.sub(r"\n\s*", "\n", re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL))
    svg = _scope_ids(svg, re.sub(r"\W+", "-", title))
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    label = title.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return re.sub(
        r'<svg width="[^"]*" height="[^"]*"', f'<svg role="img" aria-label="{label} by optimizer step"', svg, count=1
    )


def _scope_ids(svg: str, prefix: str) -> str:
    """Marker and clip names of several pictures on one page must not meet."""
    replace: Callable[[re.Match[str]], str] = lambda match: f"{match[1]}{prefix}-{match[2]}"  # noqa: E731
    return re.sub(r'(id="|href="#|url\(#)([a-z0-9]+)', replace, svg)
