"""Run and evaluation directories as training and evaluation leave them, made in milliseconds."""

from __future__ import annotations

import csv
import json
import math
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

OPERATIONS = ("brighter", "darker", "grayscale", "negative", "warmer")
METRICS = {"l1": False, "ssim": True, "psnr": True}  # name -> higher is better
RATES = ("embeddings", "lm_head", "mllm", "edit_head", "unet")


def write_origin(folder: Path, overrides: list[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    config = {"optimizer": {"lr": 5e-4}, "trainer": {"max_steps": 300}, "model": {"note": "<b>bold</b> & plain"}}
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "overrides").write_text(yaml.safe_dump(overrides))
    versions = {
        "mgie_lit": "0.1.0",
        "python": "3.11.7",
        "packages": {"torch": "2.13.0", "diffusers": "0.42.1"},
        "git_commit": "0123456789abcdef0123456789abcdef01234567",
        "git_dirty": False,
    }
    (folder / "versions.json").write_text(json.dumps(versions))


def write_run(folder: Path, steps: int = 300, *, copy_l1: float = 0.15) -> Path:
    write_origin(folder, ["experiment=quickstart", "trainer.max_steps=300"])
    rows: list[dict[str, float]] = []
    generator = np.random.default_rng(0)
    for step in range(steps):
        lm, edit = 6 * math.exp(-step / 40) + 0.02, 0.9 * math.exp(-step / 90) + 0.1
        noise = float(generator.normal(1, 0.1))
        rate = 1e-3 * min(1.0, step / 20)
        rows.append(
            {"step": step, "epoch": 0, "train/loss": (lm + edit) * noise, "train/loss_lm": lm, "train/loss_edit": edit}
            | {f"train/lr_{name}": rate * (2.0 if name == "unet" else 1.0) for name in RATES}
            | {"train/grad_norm": 3 * noise, "train/examples_per_second": math.nan if step == 0 else 160 * noise}
        )
        if step % 50 == 49:
            rows.append(
                {"step": step, "epoch": 0, "val/loss": lm + edit, "val/loss_lm": lm, "val/loss_edit": edit}
                | {"val/l1": edit * 0.15, "val/copy_l1": copy_l1, "val/expressive_exact": 1 - lm / 7}
            )
    with (folder / "metrics.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(dict.fromkeys(key for row in rows for key in row)), restval="")
        writer.writeheader()
        writer.writerows(rows)
    return folder


def write_evaluation(
    folder: Path,
    samples: int = 40,
    *,
    errors: dict[str, float] | None = None,
    pictures: bool = True,
    recorded: bool = True,
    side: int = 32,
) -> Path:
    """``errors`` sets the mean paired difference of a metric; its interval is 0.02 wide on each side."""
    folder.mkdir(parents=True, exist_ok=True)
    shifts = {"l1": -0.12, "ssim": 0.2, "psnr": 6.0} | (errors or {})
    if recorded:
        write_origin(folder, ["checkpoint=runs/train/one", "split=test"])
    table = pd.DataFrame([_row(index, shifts) for index in range(samples)])
    if pictures:
        _write_pictures(folder, table, side)
        table["source_image"] = "sources/" + table["sample_id"] + ".png"
        table["target_image"] = "targets/" + table["sample_id"] + ".png"
    table.to_parquet(folder / "per_sample.parquet")
    (folder / "metrics.json").write_text(json.dumps(_summary(table, shifts)))
    return folder


def _row(index: int, shifts: dict[str, float]) -> dict[str, object]:
    operation = OPERATIONS[index % len(OPERATIONS)]
    copies = {"l1": 0.15 + 0.0001 * index, "ssim": 0.7, "psnr": 16.0}
    right = f"the photo becomes {operation}"
    return {
        "sample_id": f"test-{index:06d}",
        "seed": 0,
        "session_id": f"photo-{index % 4}",
        **{name: copies[name] + shifts[name] for name in METRICS},
        "expressive_exact": float(index != 3),
        **{f"copy_{name}": value for name, value in copies.items()},
        "instruction": "<script>alert('no')</script>" if index == 0 else f"please make it {operation} ({index})",
        "expressive_instruction": "the colors become cold" if index == 3 else right,
        "expressive_target": right,
        "image_path": f"images/test-{index:06d}.png",
        "operation": operation,
        "wording": "new" if index % 5 == 4 else "seen",
        "family": "global",
    }


def _write_pictures(folder: Path, table: pd.DataFrame, side: int) -> None:
    generator = np.random.default_rng(0)
    for kind in ("sources", "images", "targets"):
        (folder / kind).mkdir()
        for name in table["sample_id"]:
            pixels = generator.integers(0, 255, (side // 8, side // 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(folder / kind / f"{name}.png")


def _summary(table: pd.DataFrame, shifts: dict[str, float]) -> dict[str, object]:
    def part(values: pd.Series) -> dict[str, float]:
        mean = float(values.mean())
        return {"mean": mean, "ci_low": mean - 0.02, "ci_high": mean + 0.02, "n": len(values)}

    names = [*METRICS, "expressive_exact"]
    return {
        "metrics": {name: part(table[name]) for name in names},
        "copy": {name: part(table[f"copy_{name}"]) for name in METRICS},
        "paired_vs_copy": {
            name: {"mean": shifts[name], "ci_low": shifts[name] - 0.02, "ci_high": shifts[name] + 0.02}
            for name in METRICS
        },
        "groups": {
            attribute: {
                str(value): {name: float(rows[name].mean()) for name in (*names, *(f"copy_{name}" for name in METRICS))}
                | {"n": len(rows)}
                for value, rows in table.groupby(attribute)
            }
            for attribute in ("wording", "operation", "family")
        },
        "protocol": {
            "split": "test",
            "num_samples": len(table),
            "sampling": {"num_inference_steps": 4},
            "metrics": {name: {"higher_is_better": higher} for name, higher in METRICS.items()},
            "intervals": {"method": "percentile bootstrap of the mean", "unit": "session", "num_units": 4},
        },
        "source": {"checkpoint": "runs/train/one"},
    }


@pytest.fixture
def make_run() -> Callable[..., Path]:
    return write_run


@pytest.fixture
def make_evaluation() -> Callable[..., Path]:
    return write_evaluation
