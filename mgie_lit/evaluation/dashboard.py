"""A finished evaluation for wandb: the same numbers, tables and pictures as in its directory."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from mgie_lit.data.image_files import open_image
from mgie_lit.evaluation.grid import spread
from mgie_lit.evaluation.plan import GRID_FILE, METRICS_FILE, TABLE_FILE
from mgie_lit.evaluation.share import SOURCE_DIR, TARGET_DIR
from mgie_lit.evaluation.wandb_media import hand_over, table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import wandb
    from PIL import Image

NUM_SHOWN = 64  # samples whose images go along
_PARTS = {"metrics": "", "copy": "copy_", "paired_vs_copy": "difference_"}  # of metrics.json -> prefix of a column


def show_evaluation(out_dir: Path, open_run: Callable[[], wandb.Run]) -> None:
    """Hand an evaluation to wandb: summary, metrics with intervals, every row, pictures of some samples, the grid.

    Args:
        out_dir: Of the evaluation, which is complete.
        open_run: Starts a run of its own, which is finished here.
    """
    hand_over(f"the evaluation in {out_dir}", out_dir, open_run, lambda run: _log(run, out_dir))


def _log(run: wandb.Run, out_dir: Path) -> None:
    import wandb

    summary = json.loads((out_dir / METRICS_FILE).read_text(encoding="utf-8"))
    rows = pd.read_parquet(out_dir / TABLE_FILE)
    stage = summary["protocol"].get("split", "test")
    run.config.update({key: summary[key] for key in ("protocol", "source")})  # type: ignore[no-untyped-call]
    for name, value in _headline(summary):
        run.summary[f"{stage}/{name}"] = value
    shown: dict[str, Any] = {"metrics": table(_metrics(summary)), "per_sample": table(rows)}
    groups = _groups(summary)
    if len(groups):
        shown["groups"] = table(groups)
    if (out_dir / GRID_FILE).is_file():
        shown["grid"] = wandb.Image(str(out_dir / GRID_FILE))
        shown["samples"] = _samples(rows, out_dir)
    run.log({f"{stage}/{name}": one for name, one in shown.items()})


def _headline(summary: Mapping[str, Any]) -> Iterator[tuple[str, float | None]]:
    """Mean and interval of each metric, and the mean of copying."""
    for name, part in summary["metrics"].items():
        yield name, part["mean"]
        yield f"{name}_ci_low", part["ci_low"]
        yield f"{name}_ci_high", part["ci_high"]
    for name, part in summary["copy"].items():
        yield f"copy_{name}", part["mean"]


def _metrics(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A row a metric: of the system, of copying, and of their paired difference."""
    return pd.DataFrame([{"metric": name, **_numbers(summary, name)} for name in summary["metrics"]])


def _numbers(summary: Mapping[str, Any], name: str) -> dict[str, object]:
    numbers = {
        f"{prefix}{key}": (summary[part].get(name) or {}).get(key)
        for part, prefix in _PARTS.items()
        for key in ("mean", "ci_low", "ci_high")
    }
    return numbers | {"n": summary["metrics"][name]["n"]}


def _groups(summary: Mapping[str, Any]) -> pd.DataFrame:
    """A row a value of each attribute, with the means over its samples."""
    return pd.DataFrame(
        [
            {"attribute": attribute, "value": value, **means}
            for attribute, values in summary["groups"].items()
            for value, means in values.items()
        ]
    )


def _samples(rows: pd.DataFrame, out_dir: Path) -> wandb.Table:
    """Some rows of the first seed, with source, edit and target."""
    first = rows[rows["seed"] == rows["seed"].iloc[0]]
    chosen = first.iloc[spread(len(first), NUM_SHOWN)]
    names = [f"{name}.png" for name in chosen["sample_id"]]
    pictures = {
        "source_image": [_open(out_dir / SOURCE_DIR / name) for name in names],
        "edited_image": [_open(out_dir / path) if isinstance(path, str) else None for path in chosen["image_path"]],
        "target_image": [_open(out_dir / TARGET_DIR / name) for name in names],
    }
    return table(chosen.drop(columns="image_path"), pictures)


def _open(path: Path) -> Image.Image | None:
    return open_image(path) if path.is_file() else None
