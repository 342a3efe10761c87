from __future__ import annotations

import csv
import os
from argparse import Namespace
from pathlib import Path

import pytest

from mgie_lit.training.csv_logger import CSVLogger


def table(run_dir: Path) -> list[dict[str, str]]:
    with (run_dir / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_is_on_disk_when_it_was_logged(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path / "new")
    for step in range(3):
        logger.log_metrics({"train/loss": 0.1 * step, "epoch": 0}, step)
        assert len(table(tmp_path / "new")) == step + 1
    assert table(tmp_path / "new")[2] == {"step": "2", "epoch": "0", "train/loss": repr(0.2)}


def test_values_keep_every_digit(tmp_path: Path) -> None:
    CSVLogger(tmp_path).log_metrics({"a": 1 / 3, "b": float("nan"), "c": 1e-30}, 0)
    (row,) = table(tmp_path)
    assert (float(row["a"]), row["b"], float(row["c"])) == (1 / 3, "nan", 1e-30)


def test_new_columns_are_added_behind_the_old_ones(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"train/loss": 1.0}, 0)
    logger.log_metrics({"val/loss": 2.0, "epoch": 0}, 0)
    logger.log_metrics({"train/loss": 3.0}, 1)
    assert list(table(tmp_path)[0]) == ["step", "epoch", "train/loss", "val/loss"]
    assert [(row["train/loss"], row["val/loss"]) for row in table(tmp_path)] == [("1.0", ""), ("", "2.0"), ("3.0", "")]


def test_a_resumed_run_appends(tmp_path: Path) -> None:
    CSVLogger(tmp_path).log_metrics({"train/loss": 1.0}, 0)
    again = CSVLogger(tmp_path, resume_step=1)
    again.log_metrics({"train/loss": 2.0, "train/lr": 0.1}, 1)
    assert [(row["step"], row["train/loss"], row["train/lr"]) for row in table(tmp_path)] == [
        ("0", "1.0", ""),
        ("1", "2.0", "0.1"),
    ]


def test_resuming_cuts_what_came_after_the_checkpoint(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    for step in range(5):
        logger.log_metrics({"train/loss": float(step), "epoch": 0}, step)
        logger.log_metrics({"val/loss": float(step), "epoch": 0}, step)
    before = table(tmp_path)
    CSVLogger(tmp_path, resume_step=3)
    assert table(tmp_path) == before[:6]


def test_without_a_table_there_is_nothing_to_cut(tmp_path: Path) -> None:
    CSVLogger(tmp_path, resume_step=3)
    assert not (tmp_path / "metrics.csv").exists()


def test_a_rewrite_that_fails_leaves_the_old_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_metrics({"train/loss": 1.0}, 0)
    before = (tmp_path / "metrics.csv").read_text()

    def no_space(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="no space left"):
        logger.log_metrics({"val/loss": 2.0}, 1)
    assert (tmp_path / "metrics.csv").read_text() == before


def test_hyperparameters_are_not_its_business(tmp_path: Path) -> None:
    logger = CSVLogger(tmp_path)
    logger.log_hyperparams(Namespace(lr=1.0))
    assert list(tmp_path.iterdir()) == []
    assert (logger.name, logger.version) == ("csv", str(tmp_path))
