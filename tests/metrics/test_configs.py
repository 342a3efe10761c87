from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mgie_lit.errors import ConfigError
from mgie_lit.metrics.base import SampleMetric

CONF = Path(__file__).resolve().parents[2] / "conf"
OPTIONS = sorted(path.stem for path in (CONF / "metrics").glob("*.yaml"))
PROTOCOLS = {
    "pixel": ["l1", "ssim", "psnr"],
    "edit": ["l1", "ssim", "psnr", "clip_i", "dino"],
    "masked": [f"{name}_{side}" for name in ("l1", "l2", "psnr", "ssim") for side in ("inside", "outside")],
    "magicbrush": ["l1", "l2", "clip_i", "dino", "clip_t", "clip_t_oracle"],
    "mgie_paper": ["l1", "ssim", "clip_i"],
    "expressive": ["l1", "ssim", "psnr", "expressive_exact", "expressive_operation"],
}


@pytest.fixture
def primary(tmp_path: Path) -> Path:
    defaults = "defaults:\n  - metrics: pixel\n  - data: gier\n  - encoders: default\n  - _self_\n"
    (tmp_path / "main.yaml").write_text(f"{defaults}hydra:\n  searchpath:\n    - file://{CONF}\n")
    return tmp_path


def build(primary: Path, *overrides: str) -> dict[str, SampleMetric]:
    with initialize_config_dir(str(primary), version_base="1.3"):
        config = compose("main", overrides=list(overrides))
    OmegaConf.resolve(config.metrics)
    return {str(name): instantiate(node) for name, node in config.metrics.items()}


def test_options_are_found() -> None:
    assert len(OPTIONS) >= 18, f"only {OPTIONS} under {CONF}"


@pytest.mark.parametrize("option", OPTIONS)
def test_option_builds_metrics_under_their_own_names(primary: Path, option: str) -> None:
    metrics = build(primary, f"metrics={option}")
    assert metrics
    for name, metric in metrics.items():
        assert isinstance(metric, SampleMetric)
        assert metric.name == name
    assert list(metrics) == PROTOCOLS.get(option, [option])


def test_options_can_be_joined(primary: Path) -> None:
    assert list(build(primary, "metrics=[pixel,l2]")) == ["l1", "ssim", "psnr", "l2"]


def test_encoders_are_named_by_the_user(primary: Path) -> None:
    metrics = build(primary, "metrics=edit")
    for name, key in (("clip_i", "encoders.clip"), ("dino", "encoders.dino")):
        with pytest.raises(ConfigError, match=f"{key}: expected a folder or a hub id of .* got nothing"):
            metrics[name].describe()
    named = build(primary, "metrics=clip_i", "encoders.clip=/no/folder")
    with pytest.raises(ConfigError, match=r"encoders.clip: .* got /no/folder, which is neither"):
        named["clip_i"].describe()


def test_parser_reads_the_sentences_of_photo_edits(primary: Path) -> None:
    metric = build(primary, "metrics=expressive_operation")["expressive_operation"]
    metric.update(["The whole image gets much brighter.", "nothing"], ["the whole image gets brighter", "it is darker"])
    assert metric.compute().item() == 0.5
    assert str(metric.describe()["parser"]).endswith("parse_expressive")


@pytest.mark.parametrize(
    ("data", "names"),
    [
        ("evr", ["l1", "dino", "clip_i", "clip_t"]),
        ("gier", ["l1", "ssim", "clip_i"]),
        ("ma5k", ["l1", "ssim", "lpips"]),
        ("magicbrush", ["l1", "dino", "clip_i", "clip_t"]),
        ("photo_edits", []),
    ],
)
def test_paper_has_metrics_for_each_of_its_data_sets(primary: Path, data: str, names: list[str]) -> None:
    assert list(build(primary, "metrics=mgie_paper", f"data={data}")) == names
    if names:
        assert list(build(primary, f"metrics=mgie_paper/{data}")) == names


def test_magicbrush_brings_its_own_preprocessing(primary: Path) -> None:
    metrics: dict[str, Any] = build(primary, "metrics=magicbrush", "encoders.clip=a", "encoders.dino=b")
    dino = metrics["dino"].encoder.preprocessing
    assert (dino.size, dino.crop, dino.resample, dino.mean[0]) == (256, 224, "bicubic", 0.485)
    for name in ("clip_i", "clip_t", "clip_t_oracle"):
        rules = metrics[name].encoder.preprocessing
        assert (rules.size, rules.crop, rules.resample) == (None, None, "bicubic")
    assert metrics["clip_t"].truncate is False


def test_features_are_kept_where_the_config_says(primary: Path) -> None:
    metrics: dict[str, Any] = build(primary, "metrics=edit")
    assert metrics["dino"].store.folder == Path("runs/features")
    metrics = build(primary, "metrics=edit", "encoders.cache=null")
    assert metrics["dino"].store.folder is None
