from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.evaluation.evaluate import evaluate, score_in_memory
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.journal import Journal
from mgie_lit.evaluation.plan import plan_evaluation
from mgie_lit.evaluation.systems import PredictionFolder
from mgie_lit.metrics.pixel import L1, PSNR, SSIM
from mgie_lit.metrics.text import ExpressiveExact
from mgie_lit.types import EditedImage, EditExample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from mgie_lit.metrics.base import SampleMetric
    from tests.evaluation.conftest import ToyDataset

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
    assert set(written) == {*("metrics", "copy", "paired_vs_copy", "groups", "spread", "turns", "protocol", "source")}
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


def test_protocol_says_which_splits_are_the_same_rows(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    own, shared = make_dataset(3, 90), make_dataset(3, 90)
    shared.shared_splits = lambda: ("train", "val", "test")
    for name, dataset, expected in (("own", own, []), ("shared", shared, ["train", "val", "test"])):
        out_dir = tmp_path / name
        evaluate(copy_source, dataset, {"l1": L1()}, out_dir=out_dir, bootstrap=FEW)
        assert json.loads((out_dir / "metrics.json").read_text())["protocol"]["shared_splits"] == expected


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
    spread = result["spread"]["l1"]
    assert spread["seed_means"] == pytest.approx({"0": 3 / 255, "4": 5 / 3 / 255})
    assert spread["over_seeds"] == pytest.approx(np.std([3 / 255, 5 / 3 / 255], ddof=1))
    assert spread["over_samples"] == pytest.approx(np.std([2 / 255, 2 / 255, 3 / 255], ddof=1))
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
        DataError, match="data: expected the example at index 1 to have the id s1, got s0; the data set"
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
        ({"metrics": {}}, r"metrics: expected at least one metric, got none; .*mgie_paper has none for other data"),
        ({"turns": "both"}, r"turns: expected one of given, chain, got 'both'"),
        ({"turns": "chain", "save_images": False}, r"save_images: expected true with turns=chain"),
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


def test_in_memory_needs_examples(make_system: Callable[..., Any]) -> None:
    with pytest.raises(DataError, match="0 x 1 = 0, got 0"):
        score_in_memory(make_system(0), [], {"l1": L1()})


def test_predictions_of_several_seeds(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    dataset = make_dataset(51, 60, 200)
    pixel = {"l1": L1()}
    first: Any = evaluate(
        make_system(55), dataset, pixel, out_dir=tmp_path / "a", seeds=(3, 4, 9), batch_size=2, bootstrap=FEW
    )
    folder = PredictionFolder(tmp_path / "a/images", seeds=(3, 4, 9))
    again: Any = evaluate(folder, dataset, pixel, out_dir=tmp_path / "b", seeds=(3, 4, 9), bootstrap=FEW)
    for part in ("metrics", "copy", "paired_vs_copy", "spread"):
        assert again[part] == first[part]


def sessions(make_dataset: Callable[..., Any]) -> ToyDataset:
    """Two chats of three turns and of one, and a turn that stands alone; not in order."""
    dataset = make_dataset(10, 20, 30, 40, 50)
    for index, (session, turn) in enumerate([("a", 1), ("b", 1), ("a", 3), ("", 1), ("a", 2)]):
        dataset.examples[index] = replace(dataset.examples[index], session_id=session, turn=turn)
    return dataset


class Brighten:
    """Adds ``5 + seed`` to what it sees, so that the turns of a chain add up."""

    def __init__(self, stop_after: int | None = None) -> None:
        self.seen: list[tuple[str, int]] = []
        self.stop_after = stop_after

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage]:
        if self.stop_after is not None and len(self.seen) >= self.stop_after:
            raise KeyboardInterrupt
        self.seen += [(example.sample_id, seed) for example in examples]
        return [EditedImage(one.source.point(lambda level: level + 5 + seed), f"seed {seed}") for one in examples]


def test_chain_edits_its_own_output_and_scores_last_turns(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    system = Brighten()
    result: Any = evaluate(
        system, sessions(make_dataset), {"l1": L1()}, out_dir=tmp_path, turns="chain", batch_size=2, bootstrap=FEW
    )
    assert system.seen == [("s0", 0), ("s1", 0), ("s4", 0), ("s2", 0), ("s3", 0)]
    table = pd.read_parquet(tmp_path / "per_sample.parquet")
    assert table["sample_id"].tolist() == ["s1", "s2", "s3"]
    assert table["l1"].tolist() == pytest.approx([15 / 255, 15 / 255, 35 / 255])  # 5, 15 and 5 against 20, 30 and 40
    assert table["copy_l1"].tolist() == pytest.approx([20 / 255, 30 / 255, 40 / 255])
    assert result["metrics"]["l1"]["n"] == 3
    every = pd.read_parquet(tmp_path / "all_turns.parquet")
    assert every["sample_id"].tolist() == ["s0", "s1", "s2", "s3", "s4"]
    assert result["turns"]["final_turn"] == {"l1": result["metrics"]["l1"]["mean"], "n": 3}
    assert result["turns"]["turn_1"] == pytest.approx({"l1": (5 + 15 + 35) / 3 / 255, "n": 3})
    assert result["turns"]["turn_2"] == pytest.approx({"l1": 40 / 255, "n": 1})  # 10 against 50
    assert result["protocol"]["turns"] == "chain"


def test_given_turns_are_edited_from_their_true_sources(make_dataset: Callable[..., Any], tmp_path: Path) -> None:
    result: Any = evaluate(Brighten(), sessions(make_dataset), {"l1": L1()}, out_dir=tmp_path, bootstrap=FEW)
    assert result["turns"]["all_turn"] == pytest.approx({"l1": (5 + 15 + 25 + 35 + 45) / 5 / 255, "n": 5})
    assert set(result["turns"]) == {"all_turn", "turn_1", "turn_2", "turn_3"}
    assert not (tmp_path / "all_turns.parquet").exists()


@pytest.mark.parametrize("turns", ["given", "chain"])
def test_evaluation_goes_on_where_it_was_killed(make_dataset: Callable[..., Any], tmp_path: Path, turns: str) -> None:
    settings: dict[str, Any] = {"turns": turns, "seeds": (0, 2), "batch_size": 2, "bootstrap": FEW}
    whole: Any = evaluate(Brighten(), sessions(make_dataset), metrics(), out_dir=tmp_path / "whole", **settings)
    half = tmp_path / "half"
    stopped = Brighten(stop_after=4)
    with pytest.raises(KeyboardInterrupt):
        evaluate(stopped, sessions(make_dataset), metrics(), out_dir=half, **settings)
    journal = half / "progress/rank-0.jsonl"
    assert len(journal.read_text().splitlines()) == len(stopped.seen) == 4
    journal.write_text(journal.read_text() + '{"sample_id": "s9", "se')  # killed while it wrote
    with pytest.raises(ConfigError, match=rf"paths.run_dir: .* interrupted; name another folder, or .*resume={half}"):
        evaluate(Brighten(), sessions(make_dataset), metrics(), out_dir=half, **settings)
    with pytest.raises(ConfigError, match=r"resume: expected the evaluation as it was begun in .*, but seeds changed"):
        evaluate(
            Brighten(), sessions(make_dataset), metrics(), out_dir=half, resume=True, **settings | {"seeds": (0, 3)}
        )
    rest = Brighten()
    resumed: Any = evaluate(rest, sessions(make_dataset), metrics(), out_dir=half, resume=True, **settings)
    assert not set(rest.seen) & set(stopped.seen)
    assert len(rest.seen) + len(stopped.seen) == 10
    assert resumed == whole
    for name in ("per_sample.parquet", "metrics.json", "grid.png"):
        assert (half / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert not (half / "progress").exists()


@pytest.mark.parametrize("count", [1, 2, 3])
def test_shares_of_any_number_of_processes_give_the_same(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path, count: int
) -> None:
    dataset = make_dataset(*range(0, 210, 30))
    whole: Any = evaluate(make_system(50), dataset, metrics(), out_dir=tmp_path / "whole", batch_size=2, bootstrap=FEW)
    plan = plan_evaluation(
        make_system(50), dataset, metrics(), out_dir=tmp_path / "shared", batch_size=2, bootstrap=FEW
    )
    plan.claim()
    for rank in reversed(range(count)):
        plan.run_share(rank, count)
    assert plan.finish() == whole


def test_two_processes_can_not_have_one_share(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    plan = plan_evaluation(make_system(50), make_dataset(1, 2), {"l1": L1()}, out_dir=tmp_path)
    plan.claim()
    with (
        Journal(tmp_path, 1),
        pytest.raises(ConfigError, match="resume: expected an evaluation that has ended, but another process works on"),
    ):
        plan.claim(resume=True)


def test_missing_share_is_an_error(
    make_dataset: Callable[..., Any], make_system: Callable[..., Any], tmp_path: Path
) -> None:
    plan = plan_evaluation(make_system(50), make_dataset(1, 2, 3), {"l1": L1()}, out_dir=tmp_path, batch_size=2)
    plan.claim()
    plan.run_share(0, 2)
    with pytest.raises(DataError, match="evaluation: expected one row a sample and seed, 3 x 1 = 3, got 2 with 0"):
        plan.finish()
