"""Every option of the project's own config tree, and that each command's config is sound as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from mgie_lit.config.compose import compose_config

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF)
PRIMARIES = sorted(path.stem for path in CONF.glob("*.yaml"))


def groups_of(primary: str) -> set[str]:
    defaults = OmegaConf.load(CONF / f"{primary}.yaml").defaults
    names = [str(key) for entry in defaults if not isinstance(entry, str) for key in entry]
    return {name.removeprefix("optional ").removeprefix("override ") for name in names}


def test_options_are_found() -> None:
    assert len(OPTIONS) >= 20, f"only {len(OPTIONS)} config options under {CONF}: the search is broken"
    assert PRIMARIES == ["eval", "prepare", "train"]


def owners_of(option: Path) -> list[str]:
    """Primary configs to test an option with: all that have its group; an experiment names its command itself."""
    group = option.parts[0]
    if group == "experiment":
        commands = re.findall(r"^# mgie (\w+) experiment=", (CONF / option).read_text(encoding="utf-8"), re.MULTILINE)
        assert commands, f"{option} does not begin with the command that runs it"
        return commands
    return [primary for primary in PRIMARIES if group in groups_of(primary)]


@pytest.mark.parametrize("option", OPTIONS, ids=str)
def test_option_composes(option: Path) -> None:
    group = option.parent.as_posix()
    owners = owners_of(option)
    prefix = "" if owners else "+"  # a group that no primary config has is added
    for primary in owners or ["train"]:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            compose(primary, overrides=[f"{prefix}{group}={option.stem}"])


@pytest.mark.parametrize("primary", PRIMARIES)
def test_primary_config_has_what_the_commands_need(primary: str) -> None:
    config = compose_config(primary, [])
    assert Path(config.paths.run_dir).parts[:2] == ("runs", primary)
    assert config.job == primary
