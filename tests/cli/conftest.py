from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def conf_tree(tmp_path: Path) -> Path:
    """A small config tree with the project's own Hydra settings and paths."""
    tree = tmp_path / "conf"
    shutil.copytree(ROOT / "tests" / "config" / "tree", tree)
    for name in ("hydra", "paths"):
        shutil.copytree(ROOT / "conf" / name, tree / name)
    return tree


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def mgie(workplace: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the command in a process of its own, in the workplace."""

    def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "mgie_lit.cli.main", *arguments],
            cwd=workplace,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )

    return run
