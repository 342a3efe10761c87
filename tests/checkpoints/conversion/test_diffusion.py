from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from diffusers.pipelines.stable_diffusion.pipeline_stable_diffusion_instruct_pix2pix import (
    StableDiffusionInstructPix2PixPipeline,
)
from safetensors.torch import load_file
from transformers import CLIPTextConfig, CLIPTextModel

from mgie_lit.checkpoints.conversion.diffusion import convert_diffusion_to_diffusers, convert_diffusion_to_export
from mgie_lit.checkpoints.conversion.trained import export_unet, write_unet
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError
from mgie_lit.testing import published_weights as published


@pytest.fixture
def sd15(tmp_path: Path, editor: Editor) -> Path:
    """A text-to-image pipeline with a text encoder in a .bin file."""
    folder = published.write_pipeline(tmp_path / "sd15", editor, in_channels=4)
    add_text(folder)
    return folder


def add_text(folder: Path) -> None:
    config = CLIPTextConfig(
        vocab_size=31, hidden_size=20, intermediate_size=12, num_hidden_layers=1, num_attention_heads=2
    )
    encoder = CLIPTextModel(config)
    encoder.config.save_pretrained(folder / "text_encoder")
    published.write_shards(folder / "text_encoder", encoder.state_dict())
    (folder / "tokenizer").mkdir()
    (folder / "tokenizer" / "vocab.json").write_text('{"<|startoftext|>": 0, "<|endoftext|>": 1}')
    (folder / "tokenizer" / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer" / "tokenizer_config.json").write_text('{"tokenizer_class": "CLIPTokenizer"}')
    (folder / "tokenizer" / "evil.py").write_text("raise SystemExit")
    index = json.loads((folder / "model_index.json").read_text())
    index |= {"text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"]}
    index |= {"feature_extractor": [None, None], "requires_safety_checker": False}
    (folder / "model_index.json").write_text(json.dumps(index))


def assert_widened(unet: UNet2DConditionModel, editor: Editor) -> None:
    weights, expected = unet.state_dict(), editor.unet.state_dict()
    assert unet.config["in_channels"] == 8
    assert torch.equal(weights["conv_in.weight"][:, :4], expected["conv_in.weight"][:, :4])
    assert weights["conv_in.weight"][:, 4:].abs().max() == 0
    assert [
        name for name in expected if name != "conv_in.weight" and not torch.equal(weights[name], expected[name])
    ] == []


def test_sd15_becomes_a_pipeline_that_diffusers_opens(tmp_path: Path, sd15: Path, editor: Editor) -> None:
    convert_diffusion_to_diffusers(sd15, tmp_path / "wide")
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(tmp_path / "wide", use_safetensors=True)
    assert_widened(pipeline.unet, editor)
    assert all(
        torch.equal(value, editor.autoencoder.state_dict()[name]) for name, value in pipeline.vae.state_dict().items()
    )
    read = torch.load(sd15 / "text_encoder" / "pytorch_model.bin")
    written = load_file(tmp_path / "wide" / "text_encoder" / "model.safetensors")
    assert read.keys() == written.keys()
    assert all(torch.equal(read[name], written[name]) for name in read)
    assert json.loads((tmp_path / "wide" / "scheduler" / "scheduler_config.json").read_text()) == json.loads(
        (sd15 / "scheduler" / "scheduler_config.json").read_text()
    )
    assert not [path for path in (tmp_path / "wide").rglob("*") if path.suffix in (".bin", ".py")]


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_sd15_becomes_parts(suffix: str, tmp_path: Path, editor: Editor) -> None:
    folder = published.write_pipeline(tmp_path / "sd15", editor, in_channels=4, suffix=suffix)
    convert_diffusion_to_export(folder, tmp_path / "export", widen=True)
    assert_widened(UNet2DConditionModel.from_pretrained(tmp_path / "export" / "unet"), editor)
    autoencoder = AutoencoderKL.from_pretrained(tmp_path / "export" / "autoencoder", use_safetensors=True)
    assert autoencoder.config["scaling_factor"] == editor.latent_scale
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        "README.md",
        "autoencoder",
        "scheduler",
        "unet",
    ]


def test_instruct_pix2pix_becomes_parts_with_its_text_encoder(
    tmp_path: Path, pipeline_folder: Path, editor: Editor
) -> None:
    add_text(pipeline_folder)
    convert_diffusion_to_export(pipeline_folder, tmp_path / "export", widen=False)
    unet = UNet2DConditionModel.from_pretrained(tmp_path / "export" / "unet")
    assert all(torch.equal(value, editor.unet.state_dict()[name]) for name, value in unet.state_dict().items())
    encoder = CLIPTextModel.from_pretrained(tmp_path / "export" / "text_encoder", use_safetensors=True)
    assert encoder.config.hidden_size == 20
    names = sorted(path.name for path in (tmp_path / "export" / "text_tokenizer").iterdir())
    assert names == ["merges.txt", "tokenizer_config.json", "vocab.json"]


def test_the_unet_of_an_export_and_of_an_editor(tmp_path: Path, pipeline_folder: Path, editor: Editor) -> None:
    convert_diffusion_to_export(pipeline_folder, tmp_path / "export", widen=False)
    export_unet(tmp_path / "export", tmp_path / "files")
    write_unet(editor, tmp_path / "memory")
    for name in ("files", "memory"):
        unet = UNet2DConditionModel.from_pretrained(tmp_path / name, use_safetensors=True)
        assert all(torch.equal(value, editor.unet.state_dict()[key]) for key, value in unet.state_dict().items())
        assert unet.config["cross_attention_dim"] == editor.unet.config["cross_attention_dim"]


@pytest.mark.faults
class TestFaults:
    def test_the_other_kind(self, tmp_path: Path, sd15: Path, pipeline_folder: Path) -> None:
        with pytest.raises(CheckpointError, match="a UNet with 8 input channels, got 4; is it --from sd15"):
            convert_diffusion_to_export(sd15, tmp_path / "export", widen=False)
        with pytest.raises(CheckpointError, match="a UNet with 4 input channels, got 8; is it --from instruct-pix2pix"):
            convert_diffusion_to_diffusers(pipeline_folder, tmp_path / "export")

    def test_a_config_that_lies_about_the_weights(self, tmp_path: Path, sd15: Path) -> None:
        path = sd15 / "unet" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "cross_attention_dim": 21}))
        with pytest.raises(CheckpointError, match=r"unet: .*attn2\.to_k\.weight has shape \(\d+, 20\) instead of"):
            convert_diffusion_to_export(sd15, tmp_path / "export", widen=True)

    def test_another_class(self, tmp_path: Path, sd15: Path) -> None:
        path = sd15 / "vae" / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "_class_name": "VQModel"}))
        with pytest.raises(
            CheckpointError, match=r"autoencoder: expected one of .*AutoencoderKL.* config of a VQModel"
        ):
            convert_diffusion_to_export(sd15, tmp_path / "export", widen=True)

    def test_a_component_that_holds_code(self, tmp_path: Path, sd15: Path) -> None:
        torch.save(torch.nn.Linear(2, 2), sd15 / "text_encoder" / "pytorch_model.bin")
        with pytest.raises(CheckpointError, match=r"text_encoder/pytorch_model\.bin: refused"):
            convert_diffusion_to_diffusers(sd15, tmp_path / "wide")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["sd15"]
