from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(sys.executable).parent


def run(*command: str | Path, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], cwd=cwd, capture_output=True, text=True, check=False)


def test_torchvision_is_not_installed() -> None:
    assert importlib.util.find_spec("torchvision") is None, (
        "torchvision is in this environment; a build that does not match torch breaks transformers, diffusers and "
        "Lightning (docs/decisions/0003-no-torchvision.md): find who requires it with `pip show torchvision`"
    )


@pytest.mark.parametrize("module", ["mgie_lit", "mgie_lit.cli.main", "mgie_lit.errors", "mgie_lit.types"])
def test_import_is_light(module: str) -> None:
    heavy = ("torch", "transformers", "diffusers", "lightning", "hydra", "numpy", "PIL")
    code = f"import sys, {module}; print(*(name for name in {heavy} if name in sys.modules))"
    result = run(sys.executable, "-c", code)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []


def test_unknown_attribute_is_refused() -> None:
    import mgie_lit

    with pytest.raises(AttributeError, match="has no attribute 'MGIEPipelin'"):
        _ = mgie_lit.MGIEPipelin


def test_layers_hold() -> None:
    result = run(BIN / "lint-imports", "--no-cache")
    assert result.returncode == 0, result.stdout + result.stderr


def test_forbidden_contracts_cover_every_layer_below() -> None:
    contracts = {
        contract["id"]: contract
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    }
    modules = [f"mgie_lit.{name}" for line in contracts["layers"]["layers"] for name in line.split(" | ")]
    below = {"hydra": "mgie_lit.config", "lightning": "mgie_lit.training"}
    for contract, lowest_allowed in below.items():
        assert contracts[contract]["source_modules"] == modules[modules.index(lowest_allowed) + 1 :], contract


def test_make_help_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.+)$", makefile, re.MULTILINE)
    assert phony is not None
    result = run("make", "help")
    listed = {line.split()[0] for line in result.stdout.splitlines() if re.match(r"  [a-z-]+ +\S", line)}
    assert result.returncode == 0, result.stderr
    assert set(phony.group(1).split()) == listed


@pytest.mark.parametrize(("given", "used"), [("", "1"), ("2", "2")])
def test_quickstart_takes_one_thread_unless_told(given: str, used: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads wait for each other, step after step, where something else runs on the machine."""
    monkeypatch.setenv("OMP_NUM_THREADS", given)
    recipe = run("make", "--dry-run", "quickstart", "VENV=.").stdout.splitlines()[-1]
    setting = recipe.partition(" ")[0]
    assert run("bash", "-c", f"{setting}; echo $OMP_NUM_THREADS").stdout == f"{used}\n"


def test_constraints_keep_torch_and_torchvision_out() -> None:
    pinned = dict(
        line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")
    )
    assert pinned["torch"] == "2.13.0", "a local version such as +cpu is not on PyPI"
    assert not {"torchvision", "timm", "lpips", "torch-fidelity"} & pinned.keys()


@pytest.mark.slow
def test_wheel_holds_config_tree_and_assets(tmp_path: Path) -> None:
    """It is built from the source distribution, so that has all that a build needs; both suit a package index."""
    result = run(sys.executable, "-m", "build", "--no-isolation", "--outdir", tmp_path, ROOT)
    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,), (source,) = tmp_path.glob("*.whl"), tmp_path.glob("*.tar.gz")
    result = run(BIN / "twine", "check", "--strict", wheel, source)
    assert result.returncode == 0, result.stdout + result.stderr
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"mgie_lit/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    package_files = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "mgie_lit").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert len(configs) >= 20, f"only {len(configs)} configs under {ROOT / 'conf'}: the search is broken"
    assert any(name.startswith("mgie_lit/assets/") for name in package_files)
    assert configs - names == set()
    assert package_files - names == set()
    assert not [name for name in names if name.startswith(("tests/", "data/", "conf/", "runs/"))]
