"""Trainings that start from folders of weights: what is loaded, what a checkpoint holds, what it is loaded with."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler
from omegaconf import DictConfig

from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.checkpoints.frozen import FROZEN_KEY
from mgie_lit.config.build import build_editor, load_editor
from mgie_lit.config.build_training import build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.config.runs import resolved
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.training.module import EditModule


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    shutil.copytree(TINY_DIR, folder)
    return folder


def config_from(export: Path, *overrides: str) -> DictConfig:
    start = [f"size.start.{part}={export}" for part in ("mllm", "edit_head", "diffusion")]
    return compose_config("train", ["trainable=paper", *start, *overrides])


def save(module: EditModule, path: Path) -> dict[str, Any]:
    """What the trainer writes, as far as it is the module's affair."""
    content: dict[str, Any] = {"state_dict": module.state_dict(), "global_step": 3}
    module.on_save_checkpoint(content)
    torch.save(content, path)
    return content


def test_parts_are_loaded_from_their_folders(export: Path) -> None:
    pipeline_weights = load_editor_of(export)
    editor = build_editor(config_from(export))
    weights = editor.state_dict()
    assert weights.keys() == pipeline_weights.keys()
    assert [name for name, value in weights.items() if not torch.equal(value, pipeline_weights[name])] == []
    assert not any(value.is_meta for value in [*editor.parameters(), *editor.buffers()])


def test_rows_that_a_folder_lacks_are_drawn_as_llama_s_are(export: Path) -> None:
    config = config_from(export, "size.mllm.language.vocab_size=712")
    language_model = build_editor(config).guide.mllm.language_model  # type: ignore[union-attr]
    for table in (language_model.get_input_embeddings().weight, language_model.lm_head.weight):
        assert table.shape[0] == 712
        assert table[512:].std().item() == pytest.approx(0.02, rel=0.05)


def load_editor_of(export: Path) -> dict[str, torch.Tensor]:
    from mgie_lit.pipeline import MGIEPipeline

    return dict(MGIEPipeline.from_pretrained(export).editor.state_dict())


def test_frozen_weights_are_left_out_and_loaded_again(export: Path, tmp_path: Path) -> None:
    config = config_from(export)
    module = build_module(config, build_editor(config))
    trained = dict(module.editor.named_parameters())["unet.conv_in.weight"]
    with torch.no_grad():
        trained.add_(1.0)
    content = save(module, tmp_path / "a.ckpt")
    trainable = {f"editor.{name}" for name in module.trainable_names}
    stored = set(content["state_dict"])
    assert trainable <= stored
    assert not any(name.startswith(("editor.guide.mllm.vision_tower", "editor.autoencoder")) for name in stored)
    assert set(content[FROZEN_KEY]) == {"guide.mllm", "autoencoder"}
    editor, _ = load_editor(tmp_path / "a.ckpt")
    expected = module.editor.state_dict()
    assert [name for name, value in editor.state_dict().items() if not torch.equal(value, expected[name])] == []
    assert torch.equal(editor.unet.conv_in.weight, trained)


def test_nothing_is_left_out_where_nothing_was_loaded(tmp_path: Path) -> None:
    config = compose_config("train", ["trainable=paper"])
    module = build_module(config, build_editor(config))
    content = save(module, tmp_path / "a.ckpt")
    assert set(content["state_dict"]) == {f"editor.{name}" for name in module.editor.state_dict()}
    assert content[FROZEN_KEY] == {}


@pytest.mark.faults
def test_other_frozen_weights_are_refused(export: Path, tmp_path: Path) -> None:
    config = config_from(export)
    save(build_module(config, build_editor(config)), tmp_path / "a.ckpt")
    other = build_editor(compose_config("train", ["seed=1"]))
    other.guide.mllm.save_pretrained(export / "mllm")  # type: ignore[union-attr]
    with pytest.raises(
        CheckpointError, match=r"guide\.mllm: expected the frozen weights of .*export .*sha256 .*others"
    ):
        load_editor(tmp_path / "a.ckpt")


@pytest.mark.faults
def test_a_folder_that_is_gone(export: Path, tmp_path: Path) -> None:
    config = config_from(export)
    save(build_module(config, build_editor(config)), tmp_path / "a.ckpt")
    shutil.rmtree(export)
    with pytest.raises(CheckpointError, match=r"export.*expected"):
        load_editor(tmp_path / "a.ckpt")


@pytest.mark.faults
def test_a_checkpoint_without_its_frozen_weights_does_not_fit_a_config_that_loads_none(
    export: Path, tmp_path: Path
) -> None:
    config = config_from(export)
    content = save(build_module(config, build_editor(config)), tmp_path / "a.ckpt")
    content["mgie_config"] = resolved(compose_config("train", ["trainable=paper"]))
    torch.save(content, tmp_path / "a.ckpt")
    with pytest.raises(
        CheckpointError, match=r"which the checkpoint leaves out, got none; give their folder with size"
    ):
        load_editor(tmp_path / "a.ckpt")


@pytest.mark.faults
def test_a_training_resumed_on_other_frozen_weights(export: Path, tmp_path: Path) -> None:
    config = config_from(export)
    content = save(build_module(config, build_editor(config)), tmp_path / "a.ckpt")
    plain = compose_config("train", ["trainable=paper"])
    module = build_module(plain, build_editor(plain))
    with pytest.raises(CheckpointError, match=r"autoencoder: expected the frozen weights of .*got none"):
        module.on_load_checkpoint(content)


@pytest.mark.faults
def test_weights_that_predict_noise_and_a_sampler_that_does_not(export: Path) -> None:
    """Stable Diffusion's weights with the small sizes' sampler."""
    DDIMScheduler(prediction_type="epsilon").save_pretrained(export / "scheduler")
    with pytest.raises(ConfigError, match=r"prediction_type: expected epsilon, as the weights of .*got sample; choose"):
        build_editor(config_from(export))
