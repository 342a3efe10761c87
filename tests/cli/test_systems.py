"""All systems through the command line: trained by one sweep, evaluated on the same examples."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from mgie_lit.testing.tiny_text import write_instruct_pix2pix

SMALL = ("data.num_examples.val=4", "callbacks.evaluate.num_examples=2", "trainer.max_steps=2")
TEST = ("data.num_examples.test=4", "metrics=expressive")
SCORED = ("mgie", "lgie", "instruct_pix2pix", "mgie_ft", "lgie_ft", "mgie_fz", "lgie_fz", "gold")
TRAINED = ("mgie", "lgie", "instruct_pix2pix", "mgie_ft", "lgie_ft", "gold")


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


def scores(folder: Path) -> dict[str, object]:
    content: dict[str, object] = json.loads((folder / "metrics.json").read_text())
    return content


def test_copy_is_scored_without_weights(tmp_path: Path) -> None:
    result = mgie("eval", "model=copy", *TEST, cwd=tmp_path)
    content = scores(tmp_path / result.stdout.splitlines()[-1])
    assert content["source"] == {"system": "copy"}
    assert content["metrics"]["l1"] == content["copy"]["l1"]  # type: ignore[index]
    assert content["paired_vs_copy"]["l1"]["mean"] == 0  # type: ignore[index]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("train", "model=copy"), "got copy, which is for evaluation only; use `mgie eval model=copy ...`"),
        (("train", "model=mgie_fz"), "got mgie_fz, which is for evaluation only"),
        (("eval", "model=instruct_pix2pix"), "random weights are never evaluated"),
    ],
)
def test_what_can_not_be_done(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    result = mgie(*arguments, cwd=tmp_path, status=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").rglob("*.*"))


@pytest.mark.slow
def test_published_folder_is_evaluated_and_edits(tmp_path: Path) -> None:
    folder = write_instruct_pix2pix(tmp_path / "published")
    result = mgie("eval", f"checkpoint={folder}", "sampling.num_inference_steps=2", *TEST, cwd=tmp_path)
    content = scores(tmp_path / result.stdout.splitlines()[-1])
    assert content["source"] == {"system": "instruct_pix2pix", "checkpoint": str(folder)}
    sampling = content["protocol"]["sampling"]  # type: ignore[index]
    assert (sampling["guidance_scale"], sampling["image_guidance_scale"]) == (7.5, 1.5)
    Image.new("RGB", (20, 12), (200, 120, 40)).save(tmp_path / "photo.png")
    mgie("edit", "photo.png", "warmer", "--model", folder, "--steps", "2", "-o", "edited.png", cwd=tmp_path)
    with Image.open(tmp_path / "edited.png") as edited:
        assert edited.size == (20, 12)


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_one_sweep_trains_all_and_all_end_in_one_table(tmp_path: Path) -> None:
    mgie("train", "experiment=systems", *SMALL, "hydra.sweep.dir=runs/systems", cwd=tmp_path)
    runs = dict(zip(TRAINED, (tmp_path / "runs" / "systems" / str(job) for job in range(len(TRAINED))), strict=True))
    for model, run in runs.items():
        assert f"name: {model}\n" in (run / "config.yaml").read_text()
        assert (run / "checkpoints" / "step-00000002.ckpt").is_file()
    mgie("eval", "experiment=score_systems", *TEST, "hydra.sweep.dir=runs/scores", cwd=tmp_path)
    folders = [tmp_path / "runs" / "scores" / str(job) for job in range(len(SCORED))]
    sources = [scores(folder)["source"] for folder in folders]
    assert [source["system"] for source in sources] == list(SCORED)  # type: ignore[index]
    for system, source in zip(SCORED, sources, strict=True):
        trained = "instruct_pix2pix" if system.endswith("_fz") else system
        assert (tmp_path / str(source["checkpoint"])).samefile(runs[trained]), system  # type: ignore[index]
        if system.endswith(("_ft", "_fz")):
            assert (tmp_path / str(source["writer"])).samefile(runs[system[:4]]), system  # type: ignore[index]
    assert {scores(folder)["metrics"]["l1"]["n"] for folder in folders} == {4}  # type: ignore[index]
    assert scores(folders[-1])["metrics"]["expressive_exact"]["mean"] == 1.0  # type: ignore[index]
    mgie("report", "runs/scores", "-o", "report.html", cwd=tmp_path)
    table = (tmp_path / "report.md").read_text().partition("## Paired")[0]
    rows = [line.split("|")[1].strip().replace("\\", "") for line in table.splitlines() if line.startswith("|")]
    assert rows[2:] == [*SCORED, "*copy*"]
