from __future__ import annotations

import json
import os
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from omegaconf import DictConfig, OmegaConf

from mgie_lit.config.runs import (
    RUN_FILES,
    check_free,
    config_hash,
    current_overrides,
    git_state,
    read_run_config,
    remove_run_files,
    resolved,
    versions,
    write_run_files,
)
from mgie_lit.errors import CheckpointError, ConfigError


@pytest.fixture
def config() -> DictConfig:
    return OmegaConf.create(
        {"lr": 1e-5, "same": "${lr}", "text": "1e-4", "words": "grün", "paths": {"run_dir": "a"}, "none": None}
    )


def test_run_files_hold_the_resolved_config(tmp_path: Path, config: DictConfig) -> None:
    run_dir = tmp_path / "run"
    write_run_files(run_dir, config, ["lr=1e-5", "+x=[1,2]"])
    assert sorted(os.listdir(run_dir)) == sorted(RUN_FILES)
    content = yaml.safe_load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    assert content["same"] == 1e-5
    assert yaml.safe_load((run_dir / "overrides").read_text()) == ["lr=1e-5", "+x=[1,2]"]
    assert read_run_config(run_dir) == OmegaConf.create(resolved(config))


def test_versions_are_recorded(tmp_path: Path, config: DictConfig) -> None:
    write_run_files(tmp_path, config, [])
    recorded = json.loads((tmp_path / "versions.json").read_text())
    assert recorded["packages"]["torch"] == version("torch")
    assert recorded["config_hash"] == config_hash(config)
    assert set(recorded) == {*versions(), "config_hash"}
    assert {"mgie_lit", "python", "platform", "git_commit", "git_dirty"} <= set(recorded)


@pytest.mark.faults
@pytest.mark.parametrize("name", [*RUN_FILES, "checkpoints", "metrics.csv", "metrics.json", "sources"])
def test_another_runs_directory_is_refused(tmp_path: Path, config: DictConfig, name: str) -> None:
    (tmp_path / name).write_text("another run's")
    message = rf"holds {name} of another run; nothing was written.*paths\.run_dir=<new>.*resume=<dir>"
    with pytest.raises(ConfigError, match=message):
        check_free(tmp_path)
    if name in RUN_FILES:
        with pytest.raises(ConfigError, match=message):
            write_run_files(tmp_path, config, [])
    assert os.listdir(tmp_path) == [name]
    assert (tmp_path / name).read_text() == "another run's"


def test_directory_is_given_back(tmp_path: Path, config: DictConfig) -> None:
    write_run_files(tmp_path, config, [])
    remove_run_files(tmp_path)
    check_free(tmp_path)
    assert os.listdir(tmp_path) == []


def test_directory_with_other_files_may_be_used(tmp_path: Path, config: DictConfig) -> None:
    (tmp_path / "slurm.log").touch()
    check_free(tmp_path)
    write_run_files(tmp_path, config, [])
    assert read_run_config(tmp_path).lr == 1e-5


@pytest.mark.faults
@pytest.mark.parametrize("missing", RUN_FILES)
def test_incomplete_run_directory(tmp_path: Path, config: DictConfig, missing: str) -> None:
    write_run_files(tmp_path, config, [])
    (tmp_path / missing).unlink()
    with pytest.raises(CheckpointError, match=rf"not a run directory: expected .* got a folder without {missing}$"):
        read_run_config(tmp_path)


@pytest.mark.faults
def test_no_run_directory_at_all(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere: not a run directory: .* got no folder"):
        read_run_config(tmp_path / "nowhere")


@pytest.mark.faults
def test_damaged_config(tmp_path: Path, config: DictConfig) -> None:
    write_run_files(tmp_path, config, [])
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(CheckpointError, match=r"config\.yaml: expected a YAML file, cannot read it"):
        read_run_config(tmp_path)
    (tmp_path / "config.yaml").write_text("[1, 2]")
    with pytest.raises(CheckpointError, match=r"config\.yaml: expected keys and values, got a list"):
        read_run_config(tmp_path)


def test_hash_follows_values_and_not_order_or_directory(config: DictConfig) -> None:
    other = OmegaConf.create(dict(reversed(list(resolved(config).items()))))
    assert config_hash(other) == config_hash(config)
    other.paths.run_dir = "elsewhere"
    assert config_hash(other) == config_hash(config)
    other.lr = 2e-5
    assert config_hash(other) != config_hash(config)


def test_resolved_leaves_hydra_out_and_the_config_alone() -> None:
    config = OmegaConf.create({"a": 1, "hydra": {"x": 1}})
    OmegaConf.set_struct(config, True)
    assert resolved(config) == {"a": 1}
    assert "hydra" in config


def test_no_overrides_outside_a_job() -> None:
    assert current_overrides() == []


def git(folder: Path, *arguments: str) -> None:
    identity = ["-c", "user.name=n", "-c", "user.email=e", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *identity, *arguments], check=True, capture_output=True)


def test_git_state_of_checkouts(tmp_path: Path) -> None:
    package = tmp_path / "mgie_lit"
    package.mkdir()
    (package / "__init__.py").touch()
    assert git_state(package) == {"git_commit": None, "git_dirty": None}
    git(tmp_path, "init", "-q")
    assert git_state(package)["git_commit"] is None  # not committed, so it could be anything
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    state = git_state(package)
    assert len(state["git_commit"]) == 40
    assert state["git_dirty"] is False
    (package / "__init__.py").write_text("changed = 1")
    assert git_state(package) == {**state, "git_dirty": True}


def test_environment_inside_somebodys_repository_is_no_checkout(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    package = tmp_path / "venv" / "site-packages" / "mgie_lit"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    assert git_state(package)["git_commit"] is None
