"""Whole runs of ``experiment=smoke`` through the command line, as a user types them."""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from PIL import Image

from mgie_lit.training.callbacks.throughput import TIMINGS

SMOKE = ("experiment=smoke", "data.num_examples.val=4", "callbacks.evaluate.num_examples=2")


def mgie(*arguments: str | Path, cwd: Path, status: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "mgie_lit.cli.main", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert result.returncode == status, result.stdout + result.stderr
    return result


def read_table(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


FIRST_STEP_SECONDS = 15


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smoke")
    before = cpu_seconds()
    mgie("train", *SMOKE, f"paths.run_dir={folder / 'run'}", cwd=folder)
    (folder / "cpu_seconds").write_text(str(cpu_seconds() - before))
    return folder / "run"


def cpu_seconds() -> float:
    """Of all processes that were started here and have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.fixture(scope="module")
def eval_dir(run_dir: Path) -> Path:
    target = run_dir.parent / "eval"
    result = mgie(
        "eval",
        f"checkpoint={run_dir}",
        "metrics=expressive",
        "data.num_examples.test=8",
        f"paths.run_dir={target}",
        cwd=run_dir.parent,
    )
    assert result.stdout.splitlines()[-1] == str(target)
    return target


def test_first_step_comes_soon(run_dir: Path, tmp_path: Path) -> None:
    """The whole run takes less than its first step may; where other work makes all dearer, a run of one step does."""
    spent = float((run_dir.parent / "cpu_seconds").read_text())
    if spent >= FIRST_STEP_SECONDS:
        before = cpu_seconds()
        mgie("train", *SMOKE, "trainer.max_steps=1", f"paths.run_dir={tmp_path / 'run'}", cwd=tmp_path)
        spent = cpu_seconds() - before
    assert spent < FIRST_STEP_SECONDS


def test_run_directory_holds_what_was_promised(run_dir: Path) -> None:
    for name in ("config.yaml", "overrides", "versions.json", "metrics.csv"):
        assert (run_dir / name).is_file(), name
    assert "${" not in (run_dir / "config.yaml").read_text()
    assert not (run_dir / ".hydra").exists()
    steps = {path.name for path in (run_dir / "checkpoints").iterdir()}
    checkpoints = {"step-00000002.ckpt", "step-00000004.ckpt"}
    assert steps == checkpoints | {f"{name}.sha256" for name in checkpoints}
    assert {path.name for path in (run_dir / "images").iterdir()} == {"step-00000002.png", "step-00000004.png"}


def test_table_has_losses_rates_speed_and_validation(run_dir: Path) -> None:
    rows = read_table(run_dir)
    columns = {key for row in rows for key, value in row.items() if value}
    assert {
        "train/loss", "train/loss_lm", "train/loss_edit", "train/grad_norm", "train/examples_per_second",
        "train/lr_unet", "train/lr_embeddings", "val/loss", "val/l1", "val/ssim", "val/psnr", "val/copy_l1",
    } <= columns  # fmt: skip
    assert [row["step"] for row in rows if row["train/loss"]] == ["0", "1", "2", "3"]


def test_checkpoint_loads_without_pickled_objects(run_dir: Path) -> None:
    content = torch.load(run_dir / "checkpoints" / "step-00000004.ckpt", weights_only=True)
    assert content["global_step"] == 4
    assert {"state_dict", "optimizer_states", "mgie_config"} <= content.keys()
    assert content["mgie_config"]["size"]["resolution"] == 64


def test_same_directory_is_not_used_twice(run_dir: Path) -> None:
    before = (run_dir / "metrics.csv").read_bytes()
    result = mgie("train", *SMOKE, f"paths.run_dir={run_dir}", cwd=run_dir.parent, status=2)
    assert "resume=" in result.stderr
    assert "Traceback" not in result.stderr
    assert (run_dir / "metrics.csv").read_bytes() == before


def test_resumed_run_equals_the_straight_one(run_dir: Path, tmp_path: Path) -> None:
    halfway = tmp_path / "run"
    mgie("train", *SMOKE, f"paths.run_dir={halfway}", cwd=tmp_path)
    (halfway / "checkpoints" / "step-00000004.ckpt").unlink()
    mgie("train", f"resume={halfway}", cwd=tmp_path)
    ours = torch.load(halfway / "checkpoints" / "step-00000004.ckpt", weights_only=True)["state_dict"]
    straight = torch.load(run_dir / "checkpoints" / "step-00000004.ckpt", weights_only=True)["state_dict"]
    assert ours.keys() == straight.keys()
    assert [key for key in ours if not torch.equal(ours[key], straight[key])] == []
    tables = [
        [{key: value for key, value in row.items() if key not in TIMINGS} for row in read_table(folder)]
        for folder in (halfway, run_dir)
    ]
    assert tables[0] == tables[1]


def test_only_values_change_beside_resume(run_dir: Path) -> None:
    result = mgie("train", f"resume={run_dir}", "data=photo_edits", "optimzer.lr=1", cwd=run_dir.parent, status=2)
    assert "optimzer.lr" in result.stderr
    result = mgie("train", f"resume={run_dir}", "data=photo_edits", cwd=run_dir.parent, status=2)
    assert "data=photo_edits: expected key=value beside resume=" in result.stderr


def test_evaluation_does_not_touch_a_training_run(run_dir: Path) -> None:
    before = sorted(path for path in run_dir.rglob("*"))
    result = mgie("eval", f"checkpoint={run_dir}", f"paths.run_dir={run_dir}", cwd=run_dir.parent, status=2)
    assert "of another run; nothing was written" in result.stderr
    assert sorted(path for path in run_dir.rglob("*")) == before


def test_evaluation_writes_numbers_rows_and_images(eval_dir: Path, run_dir: Path) -> None:
    result = json.loads((eval_dir / "metrics.json").read_text())
    assert set(result["metrics"]["l1"]) == {"mean", "ci_low", "ci_high", "n"}
    assert result["metrics"]["l1"]["n"] == 8
    assert result["paired_vs_copy"]["l1"]["mean"] == pytest.approx(
        result["metrics"]["l1"]["mean"] - result["copy"]["l1"]["mean"], abs=1e-6
    )
    rows = pd.read_parquet(eval_dir / "per_sample.parquet")
    assert len(rows) == rows["sample_id"].nunique() == 8
    for sample_id in rows["sample_id"]:
        for folder in ("images", "sources", "targets"):
            assert (eval_dir / folder / f"{sample_id}.png").is_file()
    assert not (run_dir / "metrics.json").exists(), "an evaluation wrote into the training run"


def test_predictions_score_as_the_system_that_made_them(eval_dir: Path) -> None:
    target = eval_dir.parent / "predictions"
    mgie(
        "eval",
        f"predictions={eval_dir / 'images'}",
        "data.num_examples.test=8",
        f"paths.run_dir={target}",
        cwd=eval_dir.parent,
    )
    made = json.loads((eval_dir / "metrics.json").read_text())["metrics"]["l1"]
    scored = json.loads((target / "metrics.json").read_text())["metrics"]["l1"]
    assert scored["mean"] == pytest.approx(made["mean"], abs=1e-6)


def test_edit_and_report(run_dir: Path, eval_dir: Path, tmp_path: Path) -> None:
    Image.new("RGB", (50, 30), (200, 120, 40)).save(tmp_path / "photo.png")
    result = mgie("edit", "photo.png", "make it brighter", "--model", run_dir, "-o", "edited.png", cwd=tmp_path)
    assert result.stdout.splitlines()[-1] == "edited.png"
    with Image.open(tmp_path / "edited.png") as edited:
        assert edited.size == (50, 30)
    mgie("report", run_dir, eval_dir, "-o", "report.html", cwd=tmp_path)
    page = (tmp_path / "report.html").read_text()
    for part in ("copy", "<svg", "data:image/", "loss_lm", f"checkpoint={run_dir}"):
        assert part in page, part


@pytest.mark.slow
def test_sweep_makes_a_directory_a_trial(tmp_path: Path) -> None:
    mgie("train", "-m", "optimizer.lr=1e-4,3e-4", *SMOKE, "trainer.max_steps=3", cwd=tmp_path)
    configs = sorted((tmp_path / "runs" / "multirun").glob("*/*/config.yaml"))
    for config in configs:  # the last step is kept though checkpoints are due every second one
        assert (config.parent / "checkpoints" / "step-00000003.ckpt").is_file()
    assert len(configs) == 2
    assert ["lr: 0.0001" in configs[0].read_text(), "lr: 0.0003" in configs[1].read_text()] == [True, True]
