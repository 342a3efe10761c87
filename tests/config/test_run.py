"""What a training says at its end, and what it does not."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from mgie_lit.config.run import _optimized_value, _silence_known_warnings
from mgie_lit.trials import TRIAL_FILE


def test_only_a_trial_is_warned_that_it_has_no_value(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = OmegaConf.create({"optimized_metric": "val/loss", "paths": {"run_dir": str(tmp_path)}})
    assert _optimized_value({"val/loss": 2}, config) == 2.0
    assert _optimized_value({"train/loss": 2}, config) is None
    assert not caplog.text
    (tmp_path / TRIAL_FILE).write_text("{}")
    assert _optimized_value({"train/loss": 2}, config) is None
    assert "optimized_metric: val/loss was never logged; logged were train/loss" in caplog.text


def test_hints_that_do_not_apply_are_not_shown() -> None:
    hint = (
        "The number of training batches (1) is smaller than the logging interval Trainer(log_every_n_steps=10). "
        "Set a lower value for log_every_n_steps if you want to see logs for the training epoch."
    )
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        _silence_known_warnings()
        warnings.warn(hint, stacklevel=1)
        warnings.warn("another", stacklevel=1)
    assert [str(warning.message) for warning in shown] == ["another"]
