"""The built wheel, used from a folder that knows nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.mark.slow
def test_wheel_trains_and_edits_from_another_folder(tmp_path: Path) -> None:
    site, away = tmp_path / "site", tmp_path / "away"
    away.mkdir()
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", tmp_path, ROOT)
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    install = (sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, wheel)
    subprocess.run(install, check=True, capture_output=True)

    def mgie(*arguments: str) -> str:
        code = "import sys, mgie_lit; from mgie_lit.cli.main import main; print(mgie_lit.__file__); main(sys.argv[1:])"
        command = (sys.executable, "-c", code, *arguments)
        environment = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
        result = subprocess.run(command, cwd=away, capture_output=True, text=True, check=False, env=environment)
        assert result.returncode == 0, result.stdout + result.stderr
        assert result.stdout.startswith(str(site)), "the checkout was imported instead of the wheel"
        return result.stdout

    mgie("train", "experiment=smoke", "paths.run_dir=run")
    photograph = Path(__import__("skimage").__file__).parent / "data" / "coffee.png"
    mgie("edit", str(photograph), "make it brighter", "--model", "run", "-o", "edited.png")
    assert (away / "edited.png").is_file()
    assert (away / "run" / "checkpoints").is_dir()
