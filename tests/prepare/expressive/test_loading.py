"""Folders of models: what is missing, wrong or broken."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.prepare.expressive.loading import IMAGE_TEXT, SUMMARISER, TEXT, ModelFolder, ModelKind, choose_dtype

from .conftest import CPU


@pytest.fixture
def copy(llama_dir: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llama_dir, tmp_path / "copy"))


def folder(path: Path | str | None, kind: ModelKind = TEXT, gguf_file: str | None = None) -> ModelFolder:
    return ModelFolder(None if path is None else str(path), kind, "expressive.deriver", gguf_file)


@pytest.mark.parametrize(
    ("kind", "example"),
    [
        (TEXT, "SmolLM2-1.7B-Instruct"),
        (IMAGE_TEXT, "llava-hf/llava-1.5-7b-hf"),
        (SUMMARISER, "jordiclive/flan-t5-11b-summarizer-filtered"),
    ],
)
@pytest.mark.parametrize(("name", "got"), [(None, "null"), ("away", "away, which is not there")])
def test_no_folder(kind: ModelKind, example: str, name: str | None, got: str) -> None:
    with pytest.raises(ConfigError) as caught:
        folder(name, kind).check()
    message = str(caught.value)
    assert message.startswith(f"expressive.deriver.model: expected a folder with {kind.what}, got {got}; download one")
    assert example in message
    assert message.endswith("and give expressive.deriver.model=<folder>")


def test_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "model").touch()
    with pytest.raises(ConfigError, match="model, which is a file; download one"):
        folder(tmp_path / "model").check()


@pytest.mark.parametrize(
    ("names", "lost"),
    [
        (["config.json"], r"config\.json"),
        (["model.safetensors"], r"weights \(model\.safetensors\)"),
        (["config.json", "model.safetensors"], r"config\.json and weights \(model\.safetensors\)"),
    ],
)
def test_incomplete_folder(copy: Path, names: list[str], lost: str) -> None:
    for name in names:
        (copy / name).unlink()
    with pytest.raises(ConfigError, match=rf"got .*copy without {lost}; download one"):
        folder(copy).check()


@pytest.mark.parametrize(
    ("fixture", "kind", "advice"),
    [
        ("llama_dir", IMAGE_TEXT, "model_type 'llama'; an LLM without eyes goes with expressive=text_only"),
        ("llava_dir", TEXT, "model_type 'llava'; an MLLM that looks at images goes with expressive=llava"),
        ("t5_dir", TEXT, "model_type 't5'; an MLLM that looks at images goes with expressive=llava"),
        ("llama_dir", SUMMARISER, "model_type 'llama'; expressive/summariser=none does without"),
    ],
)
def test_wrong_kind_of_model(fixture: str, kind: ModelKind, advice: str, request: pytest.FixtureRequest) -> None:
    with pytest.raises(ConfigError) as caught:
        folder(request.getfixturevalue(fixture), kind).check()
    assert str(caught.value).endswith(advice)


@pytest.mark.parametrize(("fixture", "kind"), [("llama_dir", TEXT), ("llava_dir", IMAGE_TEXT), ("t5_dir", SUMMARISER)])
def test_right_kind_of_model(fixture: str, kind: ModelKind, request: pytest.FixtureRequest) -> None:
    source = folder(request.getfixturevalue(fixture), kind)
    source.check()
    model = source.load_model(torch.bfloat16, CPU)
    assert model.dtype == torch.bfloat16
    assert not model.training


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", r"config\.json: expected a JSON object, can not read it"),
        ("[1]", r"config\.json: expected a JSON object, can not read it"),
        ('{"model_type": "newest"}', "model_type 'newest', which this version of transformers can not build; download"),
        ('{"model_type": "llava", "mm_vision_tower": "x"}', "as transformers writes it, got .* in LLaVA's own format"),
    ],
)
def test_odd_config(copy: Path, content: str, message: str) -> None:
    (copy / "config.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        folder(copy, IMAGE_TEXT).check()


def test_missing_tensors_are_not_drawn_at_random(copy: Path) -> None:
    tensors = load_file(copy / "model.safetensors")
    del tensors["lm_head.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, copy / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"2 tensors are missing .*lm_head\.weight.*up_proj.*drawn at random"):
        folder(copy).load_model(torch.float32, CPU)


def test_tensor_of_another_shape(copy: Path) -> None:
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(config | {"intermediate_size": 48}))
    with pytest.raises(
        CheckpointError, match=r"expressive\.deriver\.model: expected .*weights.* download the folder again"
    ):
        folder(copy).load_model(torch.float32, CPU)


def test_broken_weights(copy: Path) -> None:
    content = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(
        CheckpointError, match=r"expected the weights of an LLM .* can not read it: .*download the folder"
    ):
        folder(copy).load_model(torch.float32, CPU)


def test_sampling_defaults_of_the_folder_are_removed(silent_dir: Path) -> None:
    model = folder(silent_dir).load_model(torch.float32, CPU)
    assert model.generation_config.eos_token_id == [0, 2]
    assert not model.generation_config.do_sample
    assert model.generation_config.temperature in (None, 1.0)


def test_fingerprint_is_of_contents(llama_dir: Path, copy: Path) -> None:
    before = folder(llama_dir).fingerprint()
    assert folder(copy).fingerprint() == before
    (copy / "README.md").write_text("more")
    assert folder(copy).fingerprint() == before
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert folder(copy).fingerprint() != before


def test_gguf_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gguf_file: expected a file in .*, got q\.gguf; there is no \.gguf file"):
        folder(tmp_path, gguf_file="q.gguf").check()
    (tmp_path / "p.gguf").write_text("x")
    with pytest.raises(ConfigError, match=r"got q\.gguf; there is p\.gguf"):
        folder(tmp_path, gguf_file="q.gguf").check()
    folder(tmp_path, gguf_file="p.gguf").check()
    with pytest.raises(CheckpointError, match=r"expected the weights of an LLM"):
        folder(tmp_path, gguf_file="p.gguf").load_model(torch.float32, CPU)


@pytest.mark.parametrize(
    ("name", "device", "dtype"),
    [
        ("auto", "cpu", torch.float32),
        ("auto", "cuda", torch.bfloat16),
        ("float16", "cpu", torch.float16),
        ("bfloat16", "cpu", torch.bfloat16),
    ],
)
def test_dtype(name: str, device: str, dtype: torch.dtype) -> None:
    chosen, found = choose_dtype(name, torch.device(device), "expressive.deriver")
    assert found is dtype
    assert str(dtype) == f"torch.{chosen}"


def test_unknown_dtype() -> None:
    with pytest.raises(ConfigError, match=r"expressive\.deriver\.dtype: expected auto, float32, .* got int4"):
        choose_dtype("int4", CPU, "expressive.deriver")
