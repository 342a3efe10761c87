from __future__ import annotations

from pathlib import Path

import pytest
import torch

from mgie_lit.checkpoints.runs import CONFIG_KEY
from mgie_lit.config.build import build_editor, load_editor
from mgie_lit.config.build_training import build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.config.runs import resolved
from mgie_lit.errors import CheckpointError, ConfigError


def test_frozen_part_made_from_a_config_survives_a_checkpoint(tmp_path: Path) -> None:
    config = compose_config("train", ["size=tiny", "trainable=paper"])
    module = build_module(config, build_editor(config))
    frozen = module.editor.guide.mllm.vision_tower
    assert not any(parameter.requires_grad for parameter in frozen.parameters())
    with torch.no_grad():  # as if made on another machine: the seed alone must not bring them back
        for parameter in frozen.parameters():
            parameter.add_(1.0)
    content = {"state_dict": module.state_dict(), "global_step": 3, CONFIG_KEY: resolved(config)}
    torch.save(content, tmp_path / "step-00000003.ckpt")
    editor, loaded = load_editor(tmp_path / "step-00000003.ckpt")
    assert loaded.trainable == "paper"
    weights = module.editor.state_dict()
    assert editor.state_dict().keys() == weights.keys()
    assert [name for name, value in editor.state_dict().items() if not torch.equal(value, weights[name])] == []
    assert not editor.training


@pytest.mark.faults
def test_checkpoint_of_other_sizes_is_refused(tmp_path: Path) -> None:
    config = compose_config("train", ["size=tiny"])
    state = {f"editor.{name}": value for name, value in build_editor(config).state_dict().items()}
    state["editor.unet.conv_in.weight"] = torch.zeros(1)
    state["editor.unet.extra"] = torch.zeros(1)
    content = {"state_dict": state, "global_step": 3, CONFIG_KEY: resolved(config)}
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(
        CheckpointError, match=r"do not fit the config: unexpected unet\.extra; unet\.conv_in\.weight has"
    ):
        load_editor(tmp_path / "a.ckpt")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["trainable=some"], r"trainable: expected one of paper, all, got some"),
        (["objective.loss_align_weight=1"], r"expected a weight > 0 together with align=true, got 1 and false"),
        (["model.guide.align=true"], r"expected a weight > 0 together with align=true, got 0.0 and true"),
        (
            ["sampler.options.solver=unipc", "sampler.options.num_inference_steps=1000"],
            r"sampler\.options\.num_inference_steps: expected at most 999, .*one less with solver=unipc",
        ),
        (["sampler=ddim"], r"size, sampler: scheduler.prediction_type: expected 'sample'"),
    ],
)
def test_parts_that_do_not_fit(overrides: list[str], message: str) -> None:
    config = compose_config("train", overrides)
    with pytest.raises(ConfigError, match=message):
        build_module(config, build_editor(config))


def test_new_rows_is_refused_where_layers_train() -> None:
    config = compose_config("train", ["size=tiny", "model.guide.train_embeddings=new_rows", "trainable=all"])
    with pytest.raises(ConfigError, match=r"train_embeddings: expected frozen layers .* use trainable=paper"):
        build_module(config, build_editor(config))
