from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from mgie_lit.checkpoints.runs import CONFIG_KEY, EMA_KEY
from mgie_lit.config.build import build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.config.loaded import (
    LoadedEditor,
    attach_writer,
    describe_weights,
    load_edit_pipeline,
    load_trained_editor,
)
from mgie_lit.config.runs import resolved
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.edit import edit_images
from mgie_lit.testing.random_data import random_image
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
    assert not pipeline.editor.unet.conv_in.weight.is_contiguous(), "laid as an edit reads it"
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


def with_average(file: Path, *, num_updates: int = 5) -> Path:
    """The checkpoint with a moving average of all zeros."""
    content = torch.load(file, weights_only=True)
    names = [name.removeprefix("editor.") for name in content["state_dict"] if "unet" in name or "lm_head" in name]
    zeros = {name: torch.zeros_like(content["state_dict"][f"editor.{name}"]) for name in names}
    average = {"decay": 0.9, "num_updates": num_updates, "weights": zeros}
    file = file.with_name(f"averaged-{num_updates}-{file.name}")
    torch.save(content | {EMA_KEY: average}, file)
    return file


def largest(model: LoadedEditor) -> float:
    return float(model.editor.unet.state_dict()["conv_in.weight"].abs().max())


def test_the_moving_average_is_used_unless_it_is_not_wanted(tmp_path: Path) -> None:
    file = with_average(save_run(tmp_path, "model=lgie"))
    assert largest(load_trained_editor(str(file))) == 0
    assert largest(load_trained_editor(str(file), "raw")) > 0
    assert describe_weights("checkpoint", str(file))["weights"] == "ema"
    assert describe_weights("writer", str(file), "raw")["writer_weights"] == "raw"
    pipeline = load_edit_pipeline(str(file))
    assert isinstance(pipeline, MGIEPipeline)
    assert float(pipeline.editor.unet.state_dict()["conv_in.weight"].abs().max()) == 0

    reader = load_trained_editor(str(save_run(tmp_path, "model=lgie_ft")))
    for weights, expected in (("ema", 0.0), ("raw", None)):
        attach_writer(reader, {"writer": str(file)}, "lgie_ft", weights)
        head = reader.editor.guide.writer.mllm.state_dict()["language_model.lm_head.weight"]
        assert (float(head.abs().max()) == expected) == (weights == "ema")


def test_a_checkpoint_without_an_average_says_so(tmp_path: Path) -> None:
    file = save_run(tmp_path, "model=instruct_pix2pix")
    for checkpoint in (file, with_average(file, num_updates=0)):
        assert largest(load_trained_editor(str(checkpoint))) > 0
        assert describe_weights("checkpoint", str(checkpoint))["weights"] == "raw"


@pytest.mark.faults
def test_weights_that_can_not_be_chosen(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"weights: expected ema or raw, got 'best'"):
        load_trained_editor(str(save_run(tmp_path, "model=instruct_pix2pix")), "best")
    published = str(write_instruct_pix2pix(tmp_path / "published"))
    message = (
        r"weights: expected a run directory or a .ckpt file, of which 'raw' could be chosen, got .*published; leave"
    )
    with pytest.raises(ConfigError, match=message):
        load_trained_editor(published, "raw")
    with pytest.raises(ConfigError, match=r"of which 'raw' could be chosen, got tiny"):
        load_edit_pipeline("tiny", "raw")
