"""Shared by all tests: no network, one torch thread, the same draws in every run."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["WANDB_MODE"] = "offline"
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch


def pytest_configure() -> None:
    """Give every worker one thread: tests share the cores, and a tiny model is fastest so."""
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    if torch.cuda.is_available():
        return
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(pytest.mark.skip(reason="needs a GPU"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What tests want to be read, though they passed: ``record_property("summary", text)``."""
    reports = [report for reports in terminalreporter.stats.values() for report in reports]
    texts = [value for report in reports for name, value in getattr(report, "user_properties", []) if name == "summary"]
    for text in dict.fromkeys(texts):
        terminalreporter.write_line(str(text))


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with owners' real annotation files, given by MGIE_REAL_DATA."""
    value = os.environ.get("MGIE_REAL_DATA")
    if not value:
        pytest.skip("MGIE_REAL_DATA is not set: it names a folder with real annotation files")
    folder = Path(value)
    assert folder.is_dir(), f"MGIE_REAL_DATA: expected a folder, got {folder}"
    return folder
