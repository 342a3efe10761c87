from __future__ import annotations

import shutil
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
CONF = HERE.parents[1] / "conf"


@pytest.fixture
def conf_tree(tmp_path: Path) -> Path:
    """A small config tree with the project's own Hydra settings and paths."""
    tree = tmp_path / "conf"
    shutil.copytree(HERE / "tree", tree)
    for name in ("hydra", "paths"):
        shutil.copytree(CONF / name, tree / name)
    return tree
