from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from PIL import Image

from mgie_lit.evaluation.dashboard import show_evaluation
from mgie_lit.evaluation.evaluate import evaluate
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.wandb_media import MAX_SIDE, outage_is_a_warning, picture, staged_in, table
from mgie_lit.metrics.pixel import L1, SSIM

if TYPE_CHECKING:
    from collections.abc import Callable

    import wandb

NAN = float("nan")


@pytest.fixture
def evaluation(make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path) -> Path:
    """Of four samples under two seeds; SSIM does not apply to images of 12 x 10 pixels."""
    out_dir = tmp_path / "evaluation"
    evaluate(
        make_system(50, (12, 10)),
        make_dataset(51, 52, 153, 155),
        {"l1": L1(), "ssim": SSIM()},
        out_dir=out_dir,
        seeds=(0, 1),
        protocol={"split": "val"},
        source={"checkpoint": "runs/a"},
        bootstrap=Bootstrap(num_draws=50),
    )
    return out_dir


class FakeRun:
    """Takes what a run of wandb takes."""

    def __init__(self, *, log_fails: bool = False) -> None:
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.logged: dict[str, Any] = {}
        self.finished = 0
        self.log_fails = log_fails

    def log(self, values: dict[str, Any]) -> None:
        if self.log_fails:
            raise ConnectionError("the server is gone\nfor good")
        self.logged |= values

    def finish(self) -> None:
        self.finished += 1


def test_the_numbers_are_those_of_the_directory(evaluation: Path) -> None:
    run: Any = FakeRun()
    show_evaluation(evaluation, lambda: run)
    summary = json.loads((evaluation / "metrics.json").read_text())
    rows = pd.read_parquet(evaluation / "per_sample.parquet")
    assert run.finished == 1
    assert run.summary["val/l1"] == summary["metrics"]["l1"]["mean"]
    assert run.summary["val/l1_ci_high"] == summary["metrics"]["l1"]["ci_high"]
    assert run.summary["val/copy_l1"] == summary["copy"]["l1"]["mean"]
    assert run.config["source"] == {"checkpoint": "runs/a"}
    assert set(run.logged) == {f"val/{name}" for name in ("metrics", "per_sample", "groups", "grid", "samples")}

    metrics = run.logged["val/metrics"]
    line = dict(zip(metrics.columns, metrics.data[0], strict=True))
    assert line["metric"] == "l1"
    assert [line[key] for key in ("mean", "ci_low", "n")] == [
        summary["metrics"]["l1"][key] for key in ("mean", "ci_low", "n")
    ]
    assert line["difference_ci_high"] == summary["paired_vs_copy"]["l1"]["ci_high"]
    assert len(run.logged["val/per_sample"].data) == len(rows) == 8

    samples = run.logged["val/samples"]
    assert samples.columns[:4] == ["source_image", "edited_image", "target_image", "sample_id"]
    assert [row[3] for row in samples.data] == ["s0", "s1", "s2", "s3"]
    assert samples.data[2][1].image.getpixel((0, 0)) == (50, 50, 50)
    assert samples.data[2][2].image.getpixel((0, 0)) == (153, 153, 153)


def test_an_evaluation_without_images_has_tables_alone(evaluation: Path) -> None:
    (evaluation / "grid.png").unlink()
    run: Any = FakeRun()
    show_evaluation(evaluation, lambda: run)
    assert set(run.logged) == {"val/metrics", "val/per_sample", "val/groups"}


def test_a_run_that_can_not_be_opened_is_a_warning(evaluation: Path, caplog: pytest.LogCaptureFixture) -> None:
    def refuse() -> wandb.Run:
        raise TimeoutError("no answer after 60 s")

    with caplog.at_level(logging.WARNING):
        show_evaluation(evaluation, refuse)
    assert "evaluation could not be handed over (no answer after 60 s); the files" in caplog.text


def test_a_run_that_breaks_off_is_finished_and_a_warning(evaluation: Path, caplog: pytest.LogCaptureFixture) -> None:
    run: Any = FakeRun(log_fails=True)
    with caplog.at_level(logging.WARNING):
        show_evaluation(evaluation, lambda: run)
    assert run.finished == 1
    assert "could not be handed over (the server is gone); the files" in caplog.text


def test_an_interrupt_is_no_outage() -> None:
    with pytest.raises(KeyboardInterrupt), outage_is_a_warning("a table"):
        raise KeyboardInterrupt


def test_cells_are_plain_and_pictures_small() -> None:
    frame = pd.DataFrame({"score": [0.5, NAN], "turn": [1, 2], "words": ["a", None]})
    made = table(frame, {"shown": [Image.new("RGB", (2048, 1024)), None]})
    assert made.columns == ["shown", "score", "turn", "words"]
    assert made.data[0][0].image.size == (MAX_SIDE, MAX_SIDE // 2)
    assert made.data[0][1:] == [0.5, 1, "a"]
    assert made.data[1] == [None, None, 2, None]
    assert picture(Image.new("RGB", (8, 4))).image.size == (8, 4)


def test_a_column_is_of_one_kind() -> None:
    made = table(pd.DataFrame({"value": [1, "tiny", None], "number": [1, 2.5, None]}))
    assert made.data == [["1", 1.0], ["tiny", 2.5], [None, None]]


def test_an_offline_run_lies_in_the_directory_alone(
    evaluation: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import wandb

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("WANDB_DATA_DIR", raising=False)
    show_evaluation(
        evaluation,
        lambda: wandb.init(
            project="test", dir=str(evaluation), mode="offline", settings={"silent": True, "console": "off"}
        ),
    )
    names = {path.name.split("_")[0] for path in evaluation.glob("wandb/offline-run-*/files/media/table/val/*")}
    assert names == {"metrics", "per", "groups", "samples"}
    assert list(evaluation.glob("wandb/artifacts/staging/*")), "pictures of tables wait elsewhere"
    assert not (tmp_path / "home" / ".local").exists()
    assert "WANDB_DATA_DIR" not in os.environ


def test_the_users_own_folder_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", "mine")
    with staged_in(tmp_path):
        assert os.environ["WANDB_DATA_DIR"] == "mine"
    assert os.environ["WANDB_DATA_DIR"] == "mine"
