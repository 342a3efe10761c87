"""Synthetic data sets, written once; tests that change files write their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.testing.datasets import WRITERS, write_ipr2pr_columns, write_ipr2pr_packed, write_magicbrush_columns

LAYOUTS = WRITERS | {
    "ipr2pr_columns": write_ipr2pr_columns,
    "ipr2pr_packed": write_ipr2pr_packed,
    "magicbrush_columns": write_magicbrush_columns,
}


@pytest.fixture(scope="session")
def datasets_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each layout, named as in ``LAYOUTS``; to be read only."""
    folder = tmp_path_factory.mktemp("datasets")
    for name, write in LAYOUTS.items():
        write(folder / name)
    return folder


@pytest.fixture
def index_dir(tmp_path: Path) -> Path:
    """Where indexes and Arrow files of a test go."""
    return tmp_path / "indexes"
