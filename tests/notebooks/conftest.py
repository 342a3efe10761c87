from __future__ import annotations

from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"


@pytest.fixture(scope="session")
def folder() -> Path:
    """Where the notebooks lie."""
    return FOLDER


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with the argument ``notebook`` runs once for each of them."""
    if "notebook" in metafunc.fixturenames:
        paths = sorted(FOLDER.glob("*.ipynb"))
        metafunc.parametrize("notebook", paths, ids=[path.stem for path in paths])
