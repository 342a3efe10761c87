from __future__ import annotations

import itertools
import logging
from pathlib import Path
from typing import Any

import lightning
import pytest
from lightning.pytorch.demos.boring_classes import BoringModel

from mgie_lit.training.callbacks.progress import StepProgress


@pytest.fixture
def fit(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> Any:  # noqa: ANN401
    """Train a linear layer with two batches an epoch, on a clock that goes on by a second at every look."""
    caplog.set_level(logging.INFO, "mgie_lit")

    def run(bar: StepProgress, **kwargs: Any) -> lightning.Trainer:  # noqa: ANN401
        settings = {"max_epochs": -1, "limit_train_batches": 2, "limit_val_batches": 0, "log_every_n_steps": 1}
        trainer = lightning.Trainer(
            callbacks=[bar],
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
            **settings | kwargs,
        )
        trainer.fit(BoringModel())
        return trainer

    return run


def seconds() -> Any:  # noqa: ANN401
    return itertools.count().__next__


def test_one_bar_counts_the_steps_of_the_training(fit: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ANN401
    fit(StepProgress(leave=True), max_steps=7)
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert line.startswith("step ")
    assert " 7/7 " in line


def test_steps_of_several_batches_are_counted_once(fit: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ANN401
    fit(StepProgress(), max_steps=3, accumulate_grad_batches=2)
    assert " 3/3 " in capsys.readouterr().out


def test_without_a_last_step_an_epoch_has_its_own_bar(fit: Any, capsys: pytest.CaptureFixture[str]) -> None:  # noqa: ANN401
    fit(StepProgress(leave=True), max_steps=-1, max_epochs=2)
    lines = [line for line in capsys.readouterr().out.splitlines() if "epoch" in line]
    assert [line.split()[:2] for line in lines] == [["epoch", "0"], ["epoch", "1"]]
    assert all(" 2/2 " in line for line in lines)


def test_a_log_has_a_line_now_and_then(fit: Any, caplog: pytest.LogCaptureFixture) -> None:  # noqa: ANN401
    fit(StepProgress(log_every=3, clock=seconds()), max_steps=8)
    lines = [record.getMessage() for record in caplog.records if record.name.endswith("callbacks.progress")]
    assert lines == ["epoch 1, step 3 of 8, 0:00:05 left", "epoch 2, step 6 of 8, 0:00:02 left"]


def test_nothing_is_written_between_two_lines(fit: Any, caplog: pytest.LogCaptureFixture) -> None:  # noqa: ANN401
    fit(StepProgress(), max_steps=8)
    assert not [record for record in caplog.records if record.name.endswith("callbacks.progress")]
