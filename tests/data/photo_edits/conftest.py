"""A small crop pool, so that a unit test does not cut thousands of crops."""

from __future__ import annotations

import pytest

from mgie_lit.data.photo_edits.crops import CropPool, crop_pool


@pytest.fixture(scope="session")
def pool() -> CropPool:
    """The bundled test photographs at 64 pixels."""
    return crop_pool("test", 64)
