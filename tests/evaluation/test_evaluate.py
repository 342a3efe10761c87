from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from PIL import Image

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.evaluation.evaluate import evaluate, score_in_memory
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.systems import PredictionFolder
from mgie_lit.metrics.pixel import L1, PSNR, SSIM
from mgie_lit.metrics.text import ExpressiveExact
from mgie_lit.types import EditedImage, EditExample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mgie_lit.metrics.base import SampleMetric

FEW = Bootstrap(num_draws=50)


def copy_source(examples: Sequence[EditExample], *, seed: int) -> list[EditedImage]:
    return [EditedImage(example.source) for example in examples]


def metrics() -> dict[str, SampleMetric]:
    return {"l1": L1(), "ssim": SSIM(), "psnr": PSNR(), "expressive_exact": ExpressiveExact()}


def test_files_and_keys_of_an_evaluation(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    out_dir = tmp_path / "new" / "evaluation"
    result = evaluate(
        make_system(50),
        make_dataset(51, 52, 153),
        metrics(),
        out_dir=out_dir,
        batch_size=2,
        protocol={"split": "test"},
        source={"checkpoint": tmp_path},
        bootstrap=FEW,
    )
    written = json.loads((out_dir / "metrics.json").read_text())
    assert set(written) == {"metrics", "copy", "paired_vs_copy", "groups", "protocol", "source"}
    assert written["metrics"] == result["metrics"]
    assert set(written["metrics"]) == {"l1", "ssim", "psnr", "expressive_exact"}
    assert set(written["metrics"]["l1"]) == {"mean", "ci_low", "ci_high", "n"}
    assert set(written["copy"]) == set(written["paired_vs_copy"]) == {"l1", "ssim", "psnr"}
    assert set(written["paired_vs_copy"]["l1"]) == {"mean", "ci_low", "ci_high"}
    assert written["metrics"]["l1"]["mean"] == pytest.approx((1 + 2 + 103) / 3 / 255)
    assert written["copy"]["l1"]["mean"] == pytest.approx((51 + 52 + 153) / 3 / 255)
    assert written["paired_vs_copy"]["l1"]["mean"] == pytest.approx(-50 / 255)
    assert written["groups"]["kind"]["even"]["l1"] == pytest.approx(2 / 255)
    assert written["groups"]["kind"]["odd"]["n"] == 2
    assert written["source"] == {"checkpoint": str(tmp_path)}
    protocol = written["protocol"]
    assert protocol["split"] == "test"
    assert protocol["metrics"]["ssim"]["sigma"] == 1.5
    assert protocol["intervals"]["num_draws"] == 50
    assert (protocol["seeds"], protocol["num_samples"], protocol["num_rows"]) == ([0], 3, 3)
    assert protocol["num_without_edit"] == 0
    assert "bicubic" in protocol["resize"]
    names = sorted(path.relative_to(out_dir).as_posix() for path in out_dir.rglob("*") if path.is_file())
    images = [f"{folder}/s{index}.png" for folder in ("images", "sources", "targets") for index in range(3)]
    assert names == sorted(["grid.png", *images, "metrics.json", "per_sample.parquet"])


def test_table_holds_what_the_numbers_come_from(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    result: Any = evaluate(make_system(50), make_dataset(51, 52), metrics(), out_dir=tmp_path, bootstrap=FEW)
    table = pd.read_parquet(tmp_path / "per_sample.parquet")
    assert table["sample_id"].tolist() == ["s0", "s1"]
    for name, part in (("l1", "metrics"), ("expressive_exact", "metrics")):
        assert table[name].mean() == pytest.approx(result[part][name]["mean"])
    assert table["copy_psnr"].mean() == pytest.approx(result["copy"]["psnr"]["mean"])
    assert "copy_expressive_exact" not in table
    assert table["image_path"].tolist() == ["images/s0.png", "images/s1.png"]
    assert table["expressive_instruction"].tolist() == ["it gets gray 50"] * 2
    assert table["kind"].tolist() == ["odd", "even"]


def test_copy_system_has_no_difference_to_copy(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    result: Any = evaluate(copy_source, make_dataset(3, 90, 200), {"l1": L1()}, out_dir=tmp_path, bootstrap=FEW)
    assert result["paired_vs_copy"]["l1"] == {"mean": 0.0, "ci_low": 0.0, "ci_high": 0.0}
    assert result["metrics"]["l1"] == result["copy"]["l1"]


def test_several_seeds(make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path) -> None:
    system = make_system(50)
    result: Any = evaluate(
        system, make_dataset(51, 53, 55), {"l1": L1()}, out_dir=tmp_path, seeds=(0, 4), batch_size=2, bootstrap=FEW
    )
    assert system.batches == [(["s0", "s1"], 0), (["s0", "s1"], 4), (["s2"], 0), (["s2"], 4)]
    assert result["metrics"]["l1"]["n"] == 6
    assert result["metrics"]["l1"]["mean"] == pytest.approx((1 + 3 + 5 + 3 + 1 + 1) / 6 / 255)
    assert result["protocol"]["intervals"]["num_units"] == 3
    assert result["protocol"]["seeds"] == [0, 4]
    table = pd.read_parquet(tmp_path / "per_sample.parquet")
    assert table["seed"].tolist() == [0, 0, 0, 4, 4, 4]
    assert table["image_path"].tolist()[2:4] == ["images/s2.png", "images/seed-4/s0.png"]
    for path, level in zip(table["image_path"], [50, 50, 50, 54, 54, 54], strict=True):
        with Image.open(tmp_path / path) as image:
            assert image.getpixel((0, 0)) == (level, level, level)


def test_predictions_give_the_numbers_of_the_system(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = make_dataset(51, 60, 200)
    pixel = {"l1": L1(), "ssim": SSIM()}
    first: Any = evaluate(make_system(55), dataset, pixel, out_dir=tmp_path / "a", bootstrap=FEW)
    again: Any = evaluate(
        PredictionFolder(tmp_path / "a/images"), dataset, pixel, out_dir=tmp_path / "b", bootstrap=FEW
    )
    for part in ("metrics", "copy", "paired_vs_copy"):
        assert again[part] == first[part]


def test_predictions_of_another_size_are_resized_to_the_target(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    result: Any = evaluate(make_system(50, size=(40, 7)), make_dataset(60), {"l1": L1()}, out_dir=tmp_path)
    assert result["metrics"]["l1"]["mean"] == pytest.approx(10 / 255)
    with Image.open(tmp_path / "images/s0.png") as image:
        assert image.size == (40, 7)  # kept as the system gave it


def test_missing_predictions_stop_before_anything_is_written(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    with pytest.raises(DataError, match="2 missing: s0, s1"):
        evaluate(PredictionFolder(tmp_path / "made"), make_dataset(1, 2), {"l1": L1()}, out_dir=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_allowed_missing_predictions_are_rows_without_scores(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    Image.new("RGB", (16, 12), (10, 10, 10)).save(tmp_path / "made/s1.png")
    system = PredictionFolder(tmp_path / "made", allow_missing=True)
    result: Any = evaluate(system, make_dataset(51, 20, 80), {"l1": L1()}, out_dir=tmp_path / "out", bootstrap=FEW)
    assert result["metrics"]["l1"]["n"] == result["copy"]["l1"]["n"] == 1
    assert result["metrics"]["l1"]["mean"] == pytest.approx(10 / 255)
    assert result["protocol"]["num_without_edit"] == 2
    table = pd.read_parquet(tmp_path / "out/per_sample.parquet")
    assert len(table) == 3
    assert table["image_path"].isna().tolist() == [True, False, True]


def test_single_session_is_named_in_the_protocol(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    dataset = make_dataset(10, 20, 30, sessions=["photo"] * 3)
    result: Any = evaluate(copy_source, dataset, {"l1": L1()}, out_dir=tmp_path, bootstrap=FEW)
    assert result["protocol"]["intervals"]["unit"] == "sample (all rows are of one session)"
    assert result["protocol"]["intervals"]["num_units"] == 3


def test_without_images_only_numbers_are_written(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    evaluate(copy_source, make_dataset(1, 2), {"l1": L1()}, out_dir=tmp_path, save_images=False, bootstrap=FEW)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.json", "per_sample.parquet"]
    assert pd.read_parquet(tmp_path / "per_sample.parquet")["image_path"].isna().all()


def test_progress_goes_to_stderr(
    make_dataset: Callable[..., Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(copy_source, make_dataset(1, 2), {"l1": L1()}, out_dir=tmp_path, progress=True, bootstrap=FEW)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "evaluating" in captured.err


def test_an_evaluation_is_never_overwritten(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    evaluate(copy_source, make_dataset(1), {"l1": L1()}, out_dir=tmp_path, bootstrap=FEW)
    with pytest.raises(
        ConfigError, match=r"paths.run_dir: expected a folder without an evaluation, got .* holds metrics"
    ):
        evaluate(copy_source, make_dataset(1), {"l1": L1()}, out_dir=tmp_path)


def test_data_set_that_repeats_a_row_is_an_error(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    class Repeats(type(make_dataset())):  # type: ignore[misc]
        def __getitem__(self, index: int) -> EditExample:
            return self.examples[0]

    with pytest.raises(
        DataError, match="evaluation: expected one row a sample and seed, 2 x 1 = 2, got 2 with 1 repeated"
    ):
        evaluate(copy_source, Repeats(make_dataset(1, 2).examples), {"l1": L1()}, out_dir=tmp_path)
    assert not (tmp_path / "metrics.json").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("s0", r"data: expected unique ids, got s0 in rows 0 and 1; rename one"),
        ("../s1", r"data: expected an id that is safe as a file name in row 1, got '../s1'; rename it"),
        ("", r"data: expected an id that is safe as a file name in row 1, got ''"),
    ],
)
def test_ids_are_checked(make_dataset: Callable[..., Any], tmp_path: Path, name: str, message: str) -> None:
    dataset = make_dataset(1, 2)
    dataset.examples[1] = replace(dataset.examples[1], sample_id=name)
    with pytest.raises(DataError, match=message):
        evaluate(copy_source, dataset, {"l1": L1()}, out_dir=tmp_path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": ()}, r"seeds: expected at least one seed and each once, got \[\]"),
        ({"seeds": (1, 1)}, r"seeds: expected at least one seed and each once, got \[1, 1\]"),
        ({"batch_size": 0}, r"batch_size: expected at least 1, got 0"),
        ({"metrics": {}}, r"metrics: expected at least one metric, got none"),
    ],
)
def test_settings_are_checked(
    make_dataset: Callable[..., Any], tmp_path: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        evaluate(copy_source, make_dataset(1), out_dir=tmp_path, **({"metrics": {"l1": L1()}} | settings))


def test_empty_data_set_is_an_error(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(DataError, match="data: expected at least one sample to evaluate, got none"):
        evaluate(copy_source, make_dataset(), {"l1": L1()}, out_dir=tmp_path)


def test_in_memory_equals_the_files(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = make_dataset(51, 52, 153)
    result: Any = evaluate(make_system(50), dataset, metrics(), out_dir=tmp_path, seeds=(2,), bootstrap=FEW)
    scores = score_in_memory(make_system(50), dataset.examples, metrics(), seed=2, batch_size=2)
    assert scores.means() == {name: value["mean"] for name, value in result["metrics"].items()}
    assert scores.copy_means() == {name: value["mean"] for name, value in result["copy"].items()}
    assert [edit.example.sample_id for edit in scores.edits] == ["s0", "s1", "s2"]


def test_grid_rows_are_spread_over_the_examples(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any]
) -> None:
    scores = score_in_memory(make_system(0), make_dataset(*range(10)).examples, {"l1": L1()})
    rows = [row.instruction for row in scores.grid_rows(2)]
    assert rows == [row.instruction for row in scores.grid_rows(2)]
    assert len(set(rows)) == 2
    assert set(rows) < {row.instruction for row in scores.grid_rows(10)}
    assert {row.expressive_instruction for row in scores.grid_rows(2)} == {"it gets gray 0"}, "what the system wrote"
    assert len(scores.grid_rows(99)) == 10


def test_in_memory_needs_examples(make_system: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="0 x 1 = 0, got 0"):
        score_in_memory(make_system(0), [], {"l1": L1()})
