from __future__ import annotations

import re
from pathlib import Path

import pytest

from mgie_lit.config.compose import compose_config
from mgie_lit.errors import ConfigError

pytestmark = pytest.mark.faults


def faults_of(tree: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        compose_config("train", overrides, config_dir=tree)
    return str(caught.value).splitlines()


def test_overrides_apply_and_hydra_is_gone(conf_tree: Path) -> None:
    config = compose_config("train", ["model=lgie", "optimizer.lr=2", "+new=1"], config_dir=conf_tree)
    assert config.model.guide == "language_model"
    assert config.optimizer.lr == 2
    assert config.new == 1
    assert "hydra" not in config


def test_run_directory_is_a_fixed_new_name(conf_tree: Path, tmp_path: Path) -> None:
    config = compose_config("train", [f"paths.root={tmp_path}/runs"], config_dir=conf_tree)
    assert re.fullmatch(rf"{tmp_path}/runs/train/\d{{4}}-\d\d-\d\d_\d\d-\d\d-\d\d", config.paths.run_dir)
    assert not Path(config.paths.run_dir).exists()


def test_run_directory_given_by_the_user_is_kept(conf_tree: Path) -> None:
    assert compose_config("train", ["paths.run_dir=here"], config_dir=conf_tree).paths.run_dir == "here"


def test_all_faults_come_at_once(conf_tree: Path) -> None:
    faults = faults_of(conf_tree, "optimizer.lrr=1", "seed=1", "model=lgei", "=x", "~nothing", "trainer.max_step=3")
    assert [fault.partition(": ")[0] for fault in faults] == [
        "optimizer.lrr=1",
        "model=lgei",
        "=x",
        "~nothing",
        "trainer.max_step=3",
    ]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "optimizer.lrr=1",
            r"no such key; did you mean optimizer\.lr\? \(a new key is added with \+optimizer\.lrr=1\)",
        ),
        ("lr=1", r"no such key; did you mean optimizer\.lr\?"),
        ("qqqqqq=1", r"no such key \(a new key"),
        ("modle=lgie", r"no such key; did you mean model\?"),
        ("model=lgei", r"expected one of lgie, mgie, unfinished; did you mean lgie\?"),
        ("model=[mgie,lgei]", r"expected one of lgie, mgie, unfinished; did you mean lgie\?"),
        ("debug=overfit", r"train has no group debug to change; add it with \+debug=overfit"),
        ("hydra/sweeper=unheard_of", r"expected one of basic.*; more come with the extra: .*mgie-lit\[sweep\]"),
        ("hydra.run.dirr=x", r"no such key; did you mean hydra\.run\.dir\?"),
        ("optimizer.betas.first=1", r"no such key; did you mean optimizer\.betas\?"),
        ("optimizer.lr=1,2", r"several values make several runs; add -m .* as optimizer\.lr=\[\.\.\.\]"),
        ("seed", r"expected key=value, \+key=value \(new key\) or ~key"),
        ("seed=[1", r"expected key=value"),
        ("+seed=1", r"the key is there already; write seed=1 to change it"),
        ("~optimizer.lrr", r"no such key to remove; did you mean optimizer\.lr\?"),
        ("~seed=4", r"value of 'seed' is 3 and not 4"),
        ("experiment=broken", r"In 'experiment/broken': Could not load 'experiment/does_not_exist'"),
    ],
)
def test_message_of_a_faulty_override(conf_tree: Path, override: str, message: str) -> None:
    faults = faults_of(conf_tree, "seed=3", override)
    assert len(faults) == 1
    assert faults[0].startswith(f"{override}: ")
    assert re.search(message, faults[0])


def test_values_out_of_range_come_with_them(conf_tree: Path) -> None:
    faults = faults_of(conf_tree, "optimizer.lr=-1", "sed=1", "trainer.max_steps=0")
    assert [fault.partition(": ")[0] for fault in faults] == ["sed=1", "optimizer.lr", "trainer.max_steps"]


def test_key_that_only_an_experiment_brings_is_no_fault(conf_tree: Path) -> None:
    assert faults_of(conf_tree, "extra.depth=2", "sed=1", "experiment=smoke") == [
        "sed=1: no such key; did you mean seed? (a new key is added with +sed=1)"
    ]
    config = compose_config("train", ["extra.depth=2", "experiment=smoke"], config_dir=conf_tree)
    assert config.extra.depth == 2


def test_overrides_that_need_each_other_are_no_faults(conf_tree: Path) -> None:
    assert len(faults_of(conf_tree, "+new.a=1", "++new.b=2", "new.a=3", "wrong=1")) == 1


def test_broken_tree_is_reported(conf_tree: Path) -> None:
    (conf_tree / "optimizer" / "adamw.yaml").unlink()
    with pytest.raises(ConfigError, match="Could not find 'optimizer/adamw'"):
        compose_config("train", ["seed=1"], config_dir=conf_tree)


def test_unreadable_yaml_is_reported(conf_tree: Path) -> None:
    (conf_tree / "optimizer" / "adamw.yaml").write_text("lr: [1\nx: {")
    with pytest.raises(ConfigError, match=r"optimizer.adamw\.yaml"):
        compose_config("train", [], config_dir=conf_tree)


def test_unknown_primary_config(conf_tree: Path) -> None:
    with pytest.raises(ConfigError, match="Cannot find primary config 'trian'"):
        compose_config("trian", [], config_dir=conf_tree)
