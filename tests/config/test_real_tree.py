"""Every option of the project's own config tree, and that each command's config is sound as it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from mgie_lit.config.compose import compose_config, make_loader
from mgie_lit.config.validate import validate_config
from mgie_lit.errors import ConfigError

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(path.relative_to(CONF) for path in CONF.rglob("*.yaml") if path.parent != CONF)
PRIMARIES = sorted(path.stem for path in CONF.glob("*.yaml"))
# values that only a user knows, by the option that wants them
NEEDED = {"size/llava_7b.yaml": ["size.tokenizer.source=small"]}


def groups_of(primary: str) -> set[str]:
    defaults = OmegaConf.load(CONF / f"{primary}.yaml").defaults
    names = [str(key) for entry in defaults if not isinstance(entry, str) for key in entry]
    return {name.removeprefix("optional ").removeprefix("override ") for name in names}


def owners_of(option: Path) -> list[str]:
    """Primary configs to test an option with: all that have its group; an experiment names its command itself."""
    group = option.parts[0]
    if group == "experiment":
        commands = re.findall(r"^# mgie (\w+) experiment=", (CONF / option).read_text(encoding="utf-8"), re.MULTILINE)
        assert commands, f"{option} does not begin with the command that runs it"
        return commands
    return [primary for primary in PRIMARIES if group in groups_of(primary)]


def composed(option: Path, primary: str) -> DictConfig:
    """The whole config of a command with one option chosen, as a user would get it."""
    # a folder in conf/metrics only gathers options of one group; elsewhere a folder is a group
    group = "metrics" if option.parts[0] == "metrics" else option.parent.as_posix()
    name = option.with_suffix("").relative_to(group).as_posix()
    return compose_config(primary, [f"{group}={name}", *NEEDED.get(option.as_posix(), [])])


CASES = [(option, primary) for option in OPTIONS for primary in owners_of(option)]


def test_search_for_options_finds_all() -> None:
    """A search that misses a folder would let all the tests below pass."""
    assert PRIMARIES == ["eval", "prepare", "train"]
    assert len(OPTIONS) >= 38, f"only {len(OPTIONS)} config options under {CONF}"
    loader = make_loader("train")
    for folder in {option.parent.as_posix() for option in OPTIONS}:
        ours = {option.stem for option in OPTIONS if option.parent.as_posix() == folder}
        assert ours <= set(loader.get_group_options(folder)), f"Hydra does not see all of conf/{folder}"
    assert {option for option, _ in CASES} == set(OPTIONS), "an option that no command has"


@pytest.mark.parametrize(("option", "primary"), CASES, ids=str)
def test_option_composes_and_fits_what_it_configures(option: Path, primary: str) -> None:
    validate_config(composed(option, primary))


def test_check_reaches_the_signatures() -> None:
    """The test above would hold of nothing if targets were left out of the check."""
    option = Path("callbacks/evaluate.yaml")
    config = composed(option, "train")
    with open_dict(config):
        config.callbacks.evaluate.num_pictures = 1
    with pytest.raises(ConfigError, match=r"callbacks\.evaluate\.num_pictures: .* has no parameter num_pictures"):
        validate_config(config)


@pytest.mark.parametrize("primary", PRIMARIES)
def test_primary_config_has_what_the_commands_need(primary: str) -> None:
    config = compose_config(primary, [])
    assert Path(config.paths.run_dir).parts[:2] == ("runs", primary)
    assert config.job == primary
