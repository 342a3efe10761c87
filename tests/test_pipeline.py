from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler
from PIL import Image
from torch import nn

from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.guides.memory import ImageMemory
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.edit import SamplingOptions, edit_images
from mgie_lit.sampling.presets import fast
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import tiny_editor

OPTIONS = SamplingOptions(resolution=16, num_inference_steps=2, guidance_scale=2.0, image_guidance_scale=1.5)
PARTS = {"mllm", "edit_head", "tokenizer", "image_processor", "autoencoder", "unet", "scheduler"}

FRESH_PROCESS = """
import sys
import mgie_lit
import numpy as np
import torch
from PIL import Image

pipe = mgie_lit.MGIEPipeline.from_pretrained(sys.argv[1])
assert pipe.mllm.training is False
assert not {"lightning", "hydra"} & set(sys.modules), "editing needs neither"
image = Image.open(sys.argv[2])
edited = pipe(image, "make it warmer", generator=torch.Generator().manual_seed(3))
np.save(sys.argv[3], np.asarray(edited.images[0]))
print(edited.expressive_instructions[0])
"""


@pytest.fixture(scope="module")
def pipe() -> MGIEPipeline:
    return make_pipeline("kl")


@pytest.fixture(scope="module")
def export(pipe: MGIEPipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved pipeline; to be copied, not changed."""
    folder = tmp_path_factory.mktemp("export")
    pipe.save_pretrained(folder)
    return folder


def make_pipeline(codec: Any) -> MGIEPipeline:  # noqa: ANN401
    editor = tiny_editor(codec)
    nn.init.normal_(editor.unet.conv_out.weight, std=0.1)  # a fresh affine head would hide the noise
    return MGIEPipeline.from_editor(editor, OPTIONS)


def seeded(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("size", [(16, 16), (37, 11), (1, 1), (9, 80)])
def test_any_image_comes_back_in_its_size(pipe: MGIEPipeline, size: tuple[int, int]) -> None:
    out = pipe(random_image(*size, seed=0), "make it warmer", generator=seeded())
    (image,) = out.images
    assert (image.size, image.mode) == (size, "RGB")
    assert len(out.expressive_instructions) == 1


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK", "1"])
def test_other_modes_are_converted(pipe: MGIEPipeline, mode: str) -> None:
    image = random_image(12, 20, seed=0).convert(mode)
    edited = pipe(image, "make it warmer", generator=seeded()).images[0]
    expected = pipe(image.convert("RGB"), "make it warmer", generator=seeded()).images[0]
    assert np.array_equal(np.asarray(edited), np.asarray(expected))


def deep_image() -> Image.Image:
    """A 16-bit ramp: plain conversion clips all above 255 to white."""
    return Image.fromarray(np.linspace(0, 65535, 12 * 20).reshape(12, 20).astype(np.uint16))


def glass_image() -> Image.Image:
    """Black and wholly transparent: plain conversion gives black."""
    return Image.new("RGBA", (20, 12), (0, 0, 0, 0))


def turned_image() -> Image.Image:
    """Stored on its side; EXIF says how it is to be seen."""
    image = random_image(20, 12, seed=0)
    image.getexif()[0x0112] = 6  # a quarter turn
    return image


@pytest.mark.parametrize(
    ("image", "seen"),
    [
        (deep_image(), deep_image().point(lambda value: value / 257).convert("L").convert("RGB")),
        (glass_image(), Image.new("RGB", (20, 12), "white")),
        (turned_image(), random_image(20, 12, seed=0).transpose(Image.Transpose.ROTATE_270)),
    ],
    ids=["16 bit", "transparent", "exif"],
)
def test_images_are_edited_as_they_are_seen(
    monkeypatch: pytest.MonkeyPatch, pipe: MGIEPipeline, image: Image.Image, seen: Image.Image
) -> None:
    given: list[Image.Image] = []

    def spy(editor: Any, sources: list[Image.Image], *arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        given.extend(sources)
        return edit_images(editor, sources, *arguments, **options)

    monkeypatch.setattr("mgie_lit.sampling.call.edit_images", spy)
    (edited,) = pipe(image, "make it warmer", generator=seeded()).images
    assert edited.size == given[0].size == seen.size
    assert np.abs(np.asarray(given[0], dtype=int) - np.asarray(seen, dtype=int)).max() <= 1
    assert np.abs(np.asarray(image.convert("RGB").resize(seen.size), dtype=int) - np.asarray(seen, dtype=int)).max() > 9


def test_it_edits_as_the_editor_does(pipe: MGIEPipeline) -> None:
    sources = [random_image(16, 16, seed=0), random_image(37, 11, seed=1)]
    out = pipe(sources, ["warmer", "cooler"], generator=[seeded(1), seeded(2)])
    expected = edit_images(
        pipe.editor, sources, ["warmer", "cooler"], options=OPTIONS, generators=[seeded(1), seeded(2)]
    )
    for index in range(2):
        assert np.array_equal(np.asarray(out.images[index]), np.asarray(expected[index].image))
        assert out.expressive_instructions[index] == expected[index].expressive_instruction


def test_one_instruction_holds_for_all_images(pipe: MGIEPipeline) -> None:
    sources = [random_image(16, 16, seed=0), random_image(16, 16, seed=1)]
    both = pipe(sources, "warmer", generator=[seeded(1), seeded(2)])
    named = pipe(sources, ["warmer", "warmer"], generator=[seeded(1), seeded(2)])
    assert both.images == named.images


def test_seeds(pipe: MGIEPipeline) -> None:
    image = random_image(16, 16, seed=0)
    first, again, other = (pipe(image, "warmer", generator=seeded(seed)).images[0] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_one_generator_gives_every_image_its_own_noise_and_none_the_global_one(pipe: MGIEPipeline) -> None:
    image = random_image(16, 16, seed=0)
    first, second = pipe([image, image], "warmer", generator=seeded()).images
    assert first != second
    results = []
    for seed in (7, 7, 8):
        torch.manual_seed(seed)
        results.append(pipe(image, "warmer").images[0])
    assert results[0] == results[1] != results[2]


def test_a_call_may_change_steps_and_scales(pipe: MGIEPipeline) -> None:
    image = random_image(16, 16, seed=0)
    plain = pipe(image, "warmer", generator=seeded()).images[0]
    same = {"num_inference_steps": 2, "guidance_scale": 2.0, "image_guidance_scale": 1.5}
    assert pipe(image, "warmer", generator=seeded(), **same).images[0] == plain
    for name, value in {"num_inference_steps": 3, "guidance_scale": 9.0, "image_guidance_scale": 4.0}.items():
        assert pipe(image, "warmer", generator=seeded(), **{name: value}).images[0] != plain, name
    assert pipe.options == OPTIONS


def test_latents_may_be_given(pipe: MGIEPipeline) -> None:
    image = random_image(16, 16, seed=0)
    latents = torch.randn(1, 4, 8, 8, generator=seeded())
    given = pipe(image, "warmer", latents=latents, generator=seeded(99)).images[0]
    assert given == pipe(image, "warmer", generator=seeded()).images[0]


def test_steps_are_reported(pipe: MGIEPipeline) -> None:
    reports: list[tuple[int, int]] = []
    pipe(random_image(16, 16, seed=0), "warmer", on_step=lambda *done: reports.append(done))
    assert reports == [(1, 2), (2, 2)]


def test_a_replaced_scheduler_is_used() -> None:
    """As with every diffusers pipeline."""
    pipe = make_pipeline("kl")
    image = random_image(16, 16, seed=0)
    plain = pipe(image, "warmer", generator=seeded()).images[0]
    pipe.scheduler = DDPMScheduler.from_config(pipe.scheduler.config)
    assert pipe.editor.scheduler is pipe.scheduler
    assert pipe(image, "warmer", generator=seeded()).images[0] != plain


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inference_steps": 0}, "num_inference_steps: expected an integer >= 1, got 0"),
        ({"guidance_scale": -2.0}, "guidance_scale: expected a number >= 0, got -2.0"),
        ({"generator": []}, r"generators as images \(1\), got 1 and 0"),
        ({"latents": torch.zeros(1, 4, 8, 9)}, r"latents: expected shape \(1, 4, 8, 8\), got \(1, 4, 8, 9\)"),
    ],
)
def test_arguments_are_checked(pipe: MGIEPipeline, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        pipe(random_image(16, 16, seed=0), "warmer", **arguments)


def test_numbers_of_images_and_instructions_have_to_agree(pipe: MGIEPipeline) -> None:
    with pytest.raises(ValueError, match=r"as many instructions and generators as images \(1\), got 2 and 1"):
        pipe(random_image(16, 16, seed=0), ["warmer", "cooler"])


@pytest.mark.parametrize("codec", ["kl", "patch"])
def test_saved_and_loaded_in_a_fresh_process_it_edits_the_same(codec: str, tmp_path: Path) -> None:
    pipe, image = make_pipeline(codec), random_image(21, 30, seed=0)
    pipe.save_pretrained(tmp_path / "export")
    image.save(tmp_path / "source.png")
    result = subprocess.run(
        [sys.executable, "-c", FRESH_PROCESS, tmp_path / "export", tmp_path / "source.png", tmp_path / "edited.npy"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    expected = pipe(image, "make it warmer", generator=seeded())
    assert np.array_equal(np.load(tmp_path / "edited.npy"), np.asarray(expected.images[0]))
    assert result.stdout.rstrip("\n") == expected.expressive_instructions[0]


def test_it_is_laid_out_for_editing_and_saved_plainly(tmp_path: Path) -> None:
    make_pipeline("kl").save_pretrained(tmp_path / "export")
    pipe = MGIEPipeline.from_pretrained(tmp_path / "export")
    pipe(random_image(16, 16, seed=0), "warmer", num_inference_steps=1)
    assert not pipe.unet.conv_in.weight.is_contiguous()
    assert not pipe.mllm.language_model.lm_head.weight.is_contiguous()
    pipe.save_pretrained(tmp_path / "again")
    for part in ("unet", "mllm"):
        first, second = (
            (tmp_path / name / part / "diffusion_pytorch_model.safetensors").read_bytes()
            for name in ("export", "again")
        )
        assert first == second


def test_an_export_has_a_folder_a_part_and_no_pickle(pipe: MGIEPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == PARTS | {"model_index.json", "README.md"}
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    weights = [path for path in files if path.suffix == ".safetensors"]
    assert {path.parent.name for path in weights} == {"mllm", "edit_head", "autoencoder", "unet"}
    assert {path.suffix for path in files} <= {".json", ".safetensors", ".jinja", ".txt", ".model", ".md"}
    index = json.loads((tmp_path / "model_index.json").read_text())
    assert index["_class_name"] == "MGIEPipeline"
    assert {"resolution": 16, "guidance_scale": 2.0, "source_scale": 1.0}.items() <= index.items()


def test_a_card_is_written_handed_on_and_kept(pipe: MGIEPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path / "a")
    text = (tmp_path / "a" / "README.md").read_text()
    assert "# a\n" in text
    assert "is not recorded" in text
    loaded = MGIEPipeline.from_pretrained(tmp_path / "a")
    loaded.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "README.md").read_text() == text
    (tmp_path / "b" / "README.md").write_text("my own")
    loaded.save_pretrained(tmp_path / "b")
    assert (tmp_path / "b" / "README.md").read_text() == "my own"


def test_settings_survive_saving(tmp_path: Path) -> None:
    pipe = make_pipeline("patch")
    pipe.save_pretrained(tmp_path)
    loaded = MGIEPipeline.from_pretrained(tmp_path)
    assert loaded.options == OPTIONS
    assert loaded.editor.source_scale == pipe.editor.source_scale == 0.5
    guides = [pipe.editor.guide, loaded.editor.guide]
    assert guides[0].max_new_tokens == guides[1].max_new_tokens == 7
    assert guides[0].prompt.training_row("a", "b") == guides[1].prompt.training_row("a", "b")


def test_half_precision_weights_edit_too(pipe: MGIEPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    half = MGIEPipeline.from_pretrained(tmp_path, dtype=torch.bfloat16)
    assert half.unet.dtype == half.mllm.dtype == torch.bfloat16
    assert half(random_image(12, 20, seed=0), "warmer", generator=seeded()).images[0].size == (12, 20)


def test_pickled_weights_are_not_loaded(pipe: MGIEPipeline, tmp_path: Path) -> None:
    pipe.save_pretrained(tmp_path)
    weights = next((tmp_path / "edit_head").glob("*.safetensors"))
    torch.save(pipe.edit_head.state_dict(), weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"got edit_head/diffusion_pytorch_model\.bin \(a pickle\)"):
        MGIEPipeline.from_pretrained(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "{",
            r"model_index\.json: expected a JSON file as save_pretrained writes it, can not read it \(Expecting prop",
        ),
        (b"\xff\xfe", r"model_index\.json: expected a JSON file .*'utf-8' codec can't decode byte 0xff"),
        ("[]", r"model_index\.json: expected the index of a MGIEPipeline, got list; name a folder"),
        ("{}", r"model_index\.json: expected the index of a MGIEPipeline, got None"),
        ('{"_class_name": "FluxPipeline"}', r"expected the index of a MGIEPipeline, got FluxPipeline"),
    ],
)
def test_an_index_that_is_damaged_or_another_pipelines(content: str | bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(CheckpointError, match=message):
        MGIEPipeline.from_pretrained(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["missing", "cut", "garbage", "list"])
@pytest.mark.parametrize(
    "name",
    [
        "edit_head/config.json",
        "edit_head/diffusion_pytorch_model.safetensors",
        "image_processor/preprocessor_config.json",
        "scheduler/scheduler_config.json",
        "tokenizer/tokenizer.json",
    ],
)
def test_a_part_s_file_that_is_missing_or_damaged(
    export: Path, name: str, damage: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    folder = tmp_path / "copy"
    shutil.copytree(export, folder)
    file = folder / name
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes({"cut": whole[: len(whole) // 2], "garbage": b"\x80{garbage", "list": b"[1]"}[damage])
    with pytest.raises(CheckpointError, match=r"copy: expected whole files of every part.*copy or export the folder"):
        MGIEPipeline.from_pretrained(folder)


def test_an_editor_without_mllm_is_no_such_pipeline() -> None:
    editor = tiny_editor("kl")
    editor.guide = nn.Linear(1, 1)
    with pytest.raises(CheckpointError, match=r"expected a system with an MLLM \(model=mgie\), got a Linear"):
        MGIEPipeline.from_editor(editor, OPTIONS)


def test_a_folder_without_a_pipeline(tmp_path: Path) -> None:
    message = r"expected a folder with model_index\.json; export one with save_pretrained"
    with pytest.raises(CheckpointError, match=message):
        MGIEPipeline.from_pretrained(tmp_path)


@pytest.mark.parametrize("name", ["tinny", "./nothing/there", "/nothing", "a/b/c"])
def test_a_name_that_means_nothing(name: str) -> None:
    with pytest.raises(CheckpointError, match=f"model {name}: expected 'tiny', an existing folder or a hub id"):
        MGIEPipeline.from_pretrained(name)


def test_a_hub_id_without_network() -> None:
    with pytest.raises(CheckpointError, match="model some/one: neither a local folder nor a repository"):
        MGIEPipeline.from_pretrained("some/one")


def test_shipped_weights_that_are_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mgie_lit.checkpoints.exports.TINY_DIR", tmp_path)
    assert TINY_DIR.name == "tiny"
    message = "model 'tiny': expected its weights inside the package, found none; train"
    with pytest.raises(CheckpointError, match=message):
        MGIEPipeline.from_pretrained("tiny")


def test_several_generators_give_several_edits_of_one_request(pipe: MGIEPipeline) -> None:
    image = random_image(16, 16, seed=0)
    out = pipe(image, "warmer", generator=[seeded(), torch.Generator().manual_seed(5)])
    assert len(out.images) == len(out.expressive_instructions) == 2
    alone = pipe(image, "warmer", generator=seeded()).images[0]
    assert np.abs(np.asarray(out.images[0], dtype=int) - np.asarray(alone, dtype=int)).max() <= 1


def test_further_instructions_on_an_image_need_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe, image, turns = make_pipeline("kl"), random_image(16, 16, seed=0), ("warmer", "warmer", "cooler")
    expected = [pipe(image, words, generator=seeded()).images[0].tobytes() for words in turns]
    looks: list[int] = []
    see = pipe.mllm.vision_states
    monkeypatch.setattr(pipe.mllm, "vision_states", lambda pixels: (looks.append(len(pixels)), see(pixels))[1])
    for memory, num_looks in ((pipe.memory, 0), (None, 3), (ImageMemory(), 1)):
        pipe.memory = memory
        looks.clear()
        edited = [pipe(image, words, generator=seeded()).images[0].tobytes() for words in turns]
        assert edited == expected, "to the last bit"
        assert looks == [1] * num_looks
    with torch.no_grad():
        pipe.mllm.projector.weight.mul_(30.0)  # type: ignore[union-attr, operator]
    pipe(image, "warmer", generator=seeded())
    assert looks == [1] * 2, "other weights, another look"


def test_presets_and_solvers_of_a_call_and_of_an_export(tmp_path: Path) -> None:
    options = replace(OPTIONS, num_inference_steps=20)
    pipe, image = MGIEPipeline.from_editor(tiny_editor("kl"), options), random_image(16, 16, seed=0)
    by_name = pipe(image, "warmer", preset="fast", generator=seeded()).images[0]
    chosen = fast(options, pipe.scheduler)
    by_hand = pipe(
        image,
        "warmer",
        num_inference_steps=chosen.num_inference_steps,
        solver=chosen.solver,
        guidance_interval=chosen.guidance_interval,
        generator=seeded(),
    ).images[0]
    assert by_name == by_hand
    assert pipe(image, "warmer", generator=seeded()).images[0] != by_name
    saved = MGIEPipeline.from_editor(pipe.editor, chosen)
    saved.save_pretrained(tmp_path / "export")
    loaded = MGIEPipeline.from_pretrained(tmp_path / "export")
    assert loaded.options == chosen
    assert loaded(image, "warmer", generator=seeded()).images[0] == by_name
    with pytest.raises(ConfigError, match="preset: expected one of plain, fast, got 'quick'"):
        pipe(image, "warmer", preset="quick")  # type: ignore[arg-type]
