from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from mgie_lit.errors import DataError
from mgie_lit.report.differences import config_differences
from mgie_lit.report.read import Origin, TrainingRun, read_directories

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def runs(tmp_path: Path, make_run: Callable[..., Path]) -> list[TrainingRun]:
    return read_directories([make_run(tmp_path / name, 3) for name in "ab"])[0]


def with_config(run: TrainingRun, text: str) -> TrainingRun:
    return replace(run, origin=Origin(config=text))


def test_only_what_differs_is_listed(runs: list[TrainingRun]) -> None:
    first = with_config(runs[0], "paths: {run_dir: x}\nmodel: {a: 1, b: [1, 2]}\nseed: 0\n")
    second = with_config(runs[1], "paths: {run_dir: y}\nmodel: {a: 1, b: [1, 3]}\nseed: 0\nextra: null\n")
    table = config_differences([first, second], "Training runs")
    assert table
    assert table.columns == ["key", "a", "b"]
    dash = "\N{EN DASH}"
    assert [(row.label, *(cell.value for cell in row.cells)) for row in table.rows] == [
        ("model.b", "[1, 2]", "[1, 3]"),
        ("extra", dash, "null"),
    ]
    assert table.records[1] == {"key": "extra", "a": None, "b": "null"}


def test_equal_or_missing_configs_have_no_table(runs: list[TrainingRun]) -> None:
    assert config_differences(runs, "x") is None
    assert config_differences(runs[:1], "x") is None
    assert config_differences([runs[0], with_config(runs[1], "")], "x") is None


def test_a_broken_config_is_named(runs: list[TrainingRun]) -> None:
    with pytest.raises(DataError, match=r"config.yaml: expected YAML, got .*; make the directory again"):
        config_differences([runs[0], with_config(runs[1], "[")], "x")
