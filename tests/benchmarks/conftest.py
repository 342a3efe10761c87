"""Bundles for ``benchmarks/parity.py``: the small recorded one, and one of other sizes that our own code makes."""

from __future__ import annotations

import lzma
import shutil
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
SMALL = ROOT / "tests" / "golden" / "parity_small"
sys.path[:0] = [str(ROOT / "benchmarks"), str(HERE)]  # as for a program that is started there


@pytest.fixture(scope="session")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small subset of the recording, unpacked."""
    folder = tmp_path_factory.mktemp("recorded")
    for path in SMALL.iterdir():
        if path.suffix == ".xz":
            (folder / path.stem).write_bytes(lzma.decompress(path.read_bytes()))
        else:
            shutil.copy(path, folder)
    return folder


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory, recorded: Path) -> Path:
    """A whole bundle that our own code recorded, all sizes other than the real one's."""
    from made_bundle import Recorder

    folder = tmp_path_factory.mktemp("made")
    shutil.copy(recorded / "tokenizer.model", folder)
    return Recorder(folder).record()
