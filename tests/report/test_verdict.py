# ruff: noqa: RUF001 - the page has true minus signs and dashes
from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from mgie_lit.report.build import write_report
from mgie_lit.report.read import Evaluation, read_directories
from mgie_lit.report.verdict import (
    format_value,
    headline,
    interval_note,
    metric_label,
    outcome,
    split_note,
    verdicts,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def evaluation(folder: Path) -> Evaluation:
    return read_directories([folder])[1][0]


@pytest.mark.parametrize(
    ("low", "high", "higher", "expected"),
    [
        (-0.2, -0.1, False, "better"),
        (-0.2, -0.1, True, "worse"),
        (0.1, 0.2, True, "better"),
        (0.1, 0.2, False, "worse"),
        (-0.1, 0.1, True, "open"),
        (0.0, 0.1, True, "open"),  # touching zero is no proof
        (None, None, True, "unknown"),
    ],
)
def test_outcome_is_the_side_of_the_interval(
    low: float | None, high: float | None, higher: bool, expected: str
) -> None:
    assert outcome({"mean": 0.0, "ci_low": low, "ci_high": high}, higher=higher) == expected


def test_a_model_that_wins(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    results = verdicts(evaluation(make_evaluation(tmp_path / "eval", 8, pictures=False)))
    assert headline(results) == "Beats copying on L1, SSIM and PSNR."
    assert results[0].sentence.startswith("L1 0.0303 against 0.1504 for copying (0.20 of it); better: difference")
    assert results[2].sentence.startswith("PSNR 22.00 against 16.00 for copying; better: difference +6.00")


def test_a_model_that_does_not(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 8, pictures=False, errors={"l1": 0.1, "ssim": -0.1, "psnr": 0.01})
    results = verdicts(evaluation(folder))
    assert headline(results) == "Does not beat copying on L1, SSIM or PSNR."
    assert [result.outcome for result in results] == ["worse", "worse", "open"]
    assert "worse: difference +0.1000, 95 % interval +0.0800 to +0.1200" in results[0].sentence
    assert "the 95 % interval −0.01 to +0.03 includes zero" in results[2].sentence


def test_a_mixed_result_names_both_sides(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 8, pictures=False, errors={"ssim": 0.01})
    assert headline(verdicts(evaluation(folder))) == "Beats copying on L1 and PSNR; does not on SSIM."


def test_copying_itself_is_exactly_as_copying(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    result = evaluation(make_evaluation(tmp_path / "a", 8, pictures=False))
    result.summary["paired_vs_copy"]["l1"] = {"mean": 0.0, "ci_low": 0.0, "ci_high": 0.0}
    assert verdicts(result)[0].outcome == "open"
    assert verdicts(result)[0].sentence.endswith("exactly as copying.")


def test_without_a_comparison_nothing_is_claimed(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    result = evaluation(make_evaluation(tmp_path / "a", 8, pictures=False))
    result.summary.pop("paired_vs_copy")
    assert headline(verdicts(result)).startswith("Not compared with copying")


def test_direction_comes_from_the_protocol_first(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    result = evaluation(make_evaluation(tmp_path / "a", 8, pictures=False))
    assert verdicts(result)[0].outcome == "better"
    result.summary["protocol"]["metrics"]["l1"]["higher_is_better"] = True
    assert verdicts(result)[0].outcome == "worse"
    result.summary["protocol"].pop("metrics")
    assert [entry.outcome for entry in verdicts(result)] == ["better", "better", "better"]


def test_few_units_are_a_warning(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    result = evaluation(make_evaluation(tmp_path / "a", 8, pictures=False))
    assert "over 4 independent units (session). So few units" in interval_note(result)
    result.summary["protocol"]["intervals"]["num_units"] = 200
    assert interval_note(result).endswith("over 200 independent units (session).")
    result.summary["protocol"].pop("intervals")
    assert interval_note(result) == ""


def test_numbers_as_text() -> None:
    assert format_value("l1", None) == "–"
    assert format_value("l1", float("nan")) == "–"
    assert format_value("ssim", -0.02, sign=True) == "−0.0200"
    assert format_value("expressive_exact", 1.0) == "100.0 %"
    assert metric_label("my_own") == "my_own"


def test_scores_of_training_examples_are_told_apart(tmp_path: Path, make_evaluation: Callable[..., Path]) -> None:
    folder = make_evaluation(tmp_path / "a", 8, pictures=False)
    assert split_note(evaluation(folder)) == ""
    summary = json.loads((folder / "metrics.json").read_text())
    summary["protocol"]["shared_splits"] = ["train", "val", "test"]
    (folder / "metrics.json").write_text(json.dumps(summary))
    note = split_note(evaluation(folder))
    assert "the splits train, val and test are the same rows, so this says nothing about new pictures" in note
    write_report([folder], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.index("Beats copying on") < page.index(note) < page.index("L1 0.0303 against")
