"""The built wheel, in an environment of its own, used from a folder that knows nothing of the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
WHERE = "import mgie_lit, mgie_lit.config.location as at; print(mgie_lit.__file__); print(at.config_dir())"


def run(*command: str | Path, cwd: Path) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(list(command), cwd=cwd, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the wheel; it sees this environment's packages, but not the project, whose place is in a file of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder)
    (wheel,) = folder.glob("*.whl")
    home = folder / "environment"
    venv.create(home, with_pip=False, symlinks=True)
    (site,) = home.glob("lib/python*/site-packages")
    install = ("pip", "--python", home / "bin" / "python", "install", "-q", "--no-deps", "--no-index", wheel)
    run(sys.executable, "-m", *install, cwd=folder)
    (site / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")  # paths there: its own .pth are not followed
    return home


@pytest.mark.slow
def test_wheel_trains_edits_scores_and_reports_from_another_folder(environment: Path, tmp_path: Path) -> None:
    python, mgie = environment / "bin" / "python", environment / "bin" / "mgie"
    imported, configs = run(python, "-c", WHERE, cwd=tmp_path).splitlines()
    assert Path(imported).is_relative_to(environment), "the checkout was imported instead of the wheel"
    assert Path(configs).is_relative_to(environment)
    assert run(mgie, "--version", cwd=tmp_path) == f"mgie {VERSION}\n"

    run(mgie, "train", "experiment=smoke", "paths.run_dir=run", cwd=tmp_path)
    assert (tmp_path / "run" / "checkpoints").is_dir()
    photograph = Path(__import__("skimage").__file__).parent / "data" / "coffee.png"
    for model in ("tiny", "run"):
        run(mgie, "edit", photograph, "make it brighter", "--model", model, "-o", f"{model}.png", cwd=tmp_path)
        assert (tmp_path / f"{model}.png").is_file()
    run(mgie, "eval", "checkpoint=tiny", "data.num_examples.test=8", "paths.run_dir=scores", cwd=tmp_path)
    run(mgie, "report", "run", "scores", "-o", "report.html", cwd=tmp_path)
    assert (tmp_path / "report.html").stat().st_size > 10_000
