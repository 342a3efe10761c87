from __future__ import annotations

from pathlib import Path

import pytest

import mgie_lit
from mgie_lit.config.location import config_dir, list_options
from mgie_lit.errors import ConfigError


def test_checkout_uses_the_folder_beside_the_package() -> None:
    assert config_dir() == Path(mgie_lit.__file__).resolve().parents[1] / "conf"
    assert (config_dir() / "train.yaml").is_file()


def test_wheel_uses_the_folder_inside_and_no_foreign_one(tmp_path: Path) -> None:
    package = tmp_path / "site-packages" / "mgie_lit"
    (package / "conf").mkdir(parents=True)
    (package.parent / "conf").mkdir()  # another project's
    assert config_dir(package) == package / "conf"


def test_missing_tree_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the config tree at .*conf \(checkout\) or .*mgie_lit.conf"):
        config_dir(tmp_path / "mgie_lit")


def test_options_by_group_without_hydras(conf_tree: Path) -> None:
    options = list_options(conf_tree)
    assert options["model"] == ["lgie", "mgie", "unfinished"]
    assert not [group for group in options if group.startswith("hydra")]
    assert "." not in options
