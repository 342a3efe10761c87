from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.checkpoints.runs import CONFIG_KEY
from mgie_lit.config.build import build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.config.loaded import LoadedEditor, load_edit_pipeline, load_trained_editor
from mgie_lit.config.runs import resolved
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.edit import edit_images
from mgie_lit.testing.tiny_models import random_image
from mgie_lit.testing.tiny_text import write_instruct_pix2pix


def save_run(folder: Path, *overrides: str) -> Path:
    """A checkpoint of a system as it is before training."""
    config = compose_config("train", [*overrides, "sampler.options.num_inference_steps=1"])
    weights = {f"editor.{name}": value for name, value in build_editor(config).state_dict().items()}
    file = folder / f"{config.model.name}.ckpt"
    torch.save({"state_dict": weights, "global_step": 3, CONFIG_KEY: resolved(config)}, file)
    return file


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def test_mllm_systems_are_pipelines(tmp_path: Path) -> None:
    for model in ("mgie", "lgie"):
        assert isinstance(load_edit_pipeline(str(save_run(tmp_path, f"model={model}"))), MGIEPipeline)


def test_text_systems_are_called_like_pipelines(tmp_path: Path) -> None:
    file = str(save_run(tmp_path, "model=instruct_pix2pix"))
    pipeline = load_edit_pipeline(file)
    assert isinstance(pipeline, LoadedEditor)
    image = random_image(50, 30, seed=0)
    out = pipeline.to("cpu")(image, "warmer", num_inference_steps=2, guidance_scale=3.0, generator=seeded())
    options = load_trained_editor(file).options
    assert options.num_inference_steps == 1
    (expected,) = edit_images(
        load_trained_editor(file).editor,
        [image],
        ["warmer"],
        options=replace(options, num_inference_steps=2, guidance_scale=3.0),
        generators=[seeded()],
    )
    assert np.array_equal(np.asarray(out.images[0]), np.asarray(expected.image))
    assert out.expressive_instructions == ["warmer"]


def test_images_are_edited_as_they_are_seen(tmp_path: Path) -> None:
    pipeline = load_edit_pipeline(str(write_instruct_pix2pix(tmp_path / "published")))
    grey = Image.new("L", (16, 16), 99)
    outs = [
        pipeline(image, "warmer", num_inference_steps=1, generator=seeded()) for image in (grey, grey.convert("RGB"))
    ]
    assert np.array_equal(np.asarray(outs[0].images[0]), np.asarray(outs[1].images[0]))


def test_a_fine_tuned_run_brings_its_writer(tmp_path: Path) -> None:
    writer = save_run(tmp_path, "model=lgie")
    pipeline = load_edit_pipeline(str(save_run(tmp_path, "model=lgie_ft", f"model.writer={writer}")))
    image = random_image(64, 64, seed=0)
    written = load_edit_pipeline(str(writer))(image, "warmer", generator=seeded()).expressive_instructions
    assert pipeline(image, "warmer", generator=seeded()).expressive_instructions == written


def test_gold_takes_the_words_for_what_the_result_looks_like(tmp_path: Path) -> None:
    pipeline = load_edit_pipeline(str(save_run(tmp_path, "model=gold")))
    out = pipeline(random_image(64, 64, seed=0), "warm light", generator=seeded())
    assert out.expressive_instructions == ["warm light"]


@pytest.mark.faults
def test_a_fine_tuned_run_without_a_writer(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model.writer: mgie_ft reads expressive instructions, .* got none"):
        load_edit_pipeline(str(save_run(tmp_path, "model=mgie_ft")))


@pytest.mark.faults
def test_another_pipeline_s_folder(tmp_path: Path) -> None:
    folder = write_instruct_pix2pix(tmp_path / "published")
    index = folder / "model_index.json"
    index.write_text(index.read_text().replace("StableDiffusionInstructPix2PixPipeline", "StableDiffusionPipeline"))
    with pytest.raises(CheckpointError, match=r"expected the index of a MGIEPipeline, got StableDiffusionPipeline"):
        load_trained_editor(str(folder))
