from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

from mgie_lit.checkpoints.configs import (
    hf_settings,
    language_config,
    legacy_settings,
    vision_config,
    vision_config_of,
)
from mgie_lit.checkpoints.lazy import LazyTensor
from mgie_lit.checkpoints.loading import load_mllm
from mgie_lit.checkpoints.mllm_source import open_mllm
from mgie_lit.errors import CheckpointError
from mgie_lit.models.mllm import MLLM
from mgie_lit.testing import published_weights as published

IMAGE_ID, NUM_PATCHES = 503, 9


def hf_llava(activation: str) -> LlavaForConditionalGeneration:
    """LLaVA of transformers, in which every axis has a size of its own."""
    vision = CLIPVisionConfig(
        hidden_size=24, intermediate_size=36, num_hidden_layers=3, num_attention_heads=3, image_size=42, patch_size=14
    )
    text = LlamaConfig(
        vocab_size=530,
        hidden_size=40,
        intermediate_size=52,
        num_hidden_layers=2,
        num_attention_heads=10,
        num_key_value_heads=5,
        rms_norm_eps=1e-3,
        rope_theta=500.0,
    )
    config = LlavaConfig(
        vision_config=vision, text_config=text, image_token_index=IMAGE_ID, projector_hidden_act=activation
    )
    model = LlavaForConditionalGeneration(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.tensor([[1, 7, *[IMAGE_ID] * NUM_PATCHES, 300, 12], [1, *[IMAGE_ID] * NUM_PATCHES, 5, 41, 9]])
    return ids, torch.randn(2, 3, 42, 42)


def logits_of(mllm: MLLM, ids: torch.Tensor, pixels: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return mllm.logits(mllm(mllm.embed(ids, pixels), torch.ones_like(ids, dtype=torch.bool)))


@pytest.mark.parametrize("generation", [4, 5])
def test_hugging_face_llava_gives_transformers_logits(generation: int, tmp_path: Path) -> None:
    theirs = hf_llava("gelu")
    theirs.save_pretrained(tmp_path, max_shard_size="60KB")
    if generation == 5:  # names of the module itself, as other tools write them
        (tmp_path / "model.safetensors.index.json").unlink()
        for file in tmp_path.glob("*.safetensors"):
            file.unlink()
        published.write_shards(tmp_path, theirs.state_dict())
    source = open_mllm(tmp_path)
    mllm: MLLM = MLLM(**source.config(), image_patch_id=IMAGE_ID).eval()
    assert mllm.config["projector_layers"] == 2
    load_mllm(mllm, tmp_path)
    ids, pixels = inputs()
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(logits_of(mllm, ids, pixels), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits_of(mllm, ids, pixels + 1), expected, atol=1e-2)


def test_a_linear_projector_gives_transformers_logits(tmp_path: Path) -> None:
    """Transformers has no linear projector, but one whose second layer is the identity."""
    theirs = hf_llava("linear")
    projector = theirs.model.multi_modal_projector
    torch.nn.init.eye_(projector.linear_2.weight)
    torch.nn.init.zeros_(projector.linear_2.bias)
    language = {f"model.{name}": value for name, value in theirs.model.language_model.state_dict().items()}
    tower = theirs.model.vision_tower.state_dict()
    tensors = {
        **language,
        "lm_head.weight": theirs.lm_head.weight,
        "model.mm_projector.weight": projector.linear_1.weight,
        "model.mm_projector.bias": projector.linear_1.bias,
        **{f"model.vision_tower.vision_model.{name}": value for name, value in tower.items()},
    }
    published.write_shards(tmp_path, tensors, num_shards=2)
    config = {
        **theirs.config.text_config.to_dict(),
        "model_type": "llava",
        "vision_config": theirs.config.vision_config.to_dict(),
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    mllm: MLLM = MLLM(**open_mllm(tmp_path).config(), image_patch_id=IMAGE_ID).eval()
    assert mllm.config["projector_layers"] == 1
    load_mllm(mllm, tmp_path)
    ids, pixels = inputs()
    with torch.no_grad():
        expected = theirs(input_ids=ids, pixel_values=pixels).logits
    torch.testing.assert_close(logits_of(mllm, ids, pixels), expected, rtol=1e-5, atol=1e-5)


def test_language_config_of_an_old_llama() -> None:
    config = language_config(
        {
            "model_type": "llama",
            "max_sequence_length": 1024,
            "pad_token_id": -1,
            "rms_norm_eps": 1e-6,
            "use_cache": True,
        },
        "a",
    )
    assert (config["max_position_embeddings"], config["pad_token_id"]) == (1024, None)
    assert (config["vocab_size"], config["num_key_value_heads"], config["bos_token_id"]) == (32000, 32, 1)
    assert config["rope_parameters"]["rope_theta"] == 10000.0
    assert "use_cache" not in config


def test_language_config_keeps_what_shapes_the_model() -> None:
    fields = {
        "vocab_size": 31,
        "hidden_size": 24,
        "intermediate_size": 20,
        "num_hidden_layers": 3,
        "num_attention_heads": 6,
        "num_key_value_heads": 2,
        "rms_norm_eps": 1e-4,
        "rope_theta": 777.0,
        "tie_word_embeddings": True,
        "pad_token_id": 5,
        "bos_token_id": 6,
        "eos_token_id": 7,
    }
    config = language_config(fields, "a")
    assert {key: config[key] for key in fields if key != "rope_theta"} == {
        key: value for key, value in fields.items() if key != "rope_theta"
    }
    assert config["rope_parameters"]["rope_theta"] == 777.0
    assert LlamaConfig(**config).head_dim == 4


def shapes(width: int) -> dict[str, LazyTensor]:
    sizes = {
        "embeddings.patch_embedding.weight": (width, 3, 14, 14),
        "embeddings.position_embedding.weight": (17, width),
        "encoder.layers.0.mlp.fc1.weight": (100, width),
        "encoder.layers.1.mlp.fc1.weight": (100, width),
    }
    return {
        f"vision_tower.{name}": LazyTensor(shape, torch.float32, Path(), name, lambda: torch.ones(1))
        for name, shape in sizes.items()
    }


def test_vision_config_from_shapes() -> None:
    config = vision_config_of(shapes(128))
    assert {key: config[key] for key in ("hidden_size", "intermediate_size", "num_hidden_layers")} == {
        "hidden_size": 128,
        "intermediate_size": 100,
        "num_hidden_layers": 2,
    }
    assert (config["num_attention_heads"], config["image_size"], config["patch_size"]) == (2, 56, 14)


def test_a_lost_layer_counts() -> None:
    tensors = shapes(128)
    tensors["vision_tower.encoder.layers.10.mlp.fc1.weight"] = tensors["vision_tower.encoder.layers.1.mlp.fc1.weight"]
    assert vision_config_of(tensors)["num_hidden_layers"] == 11


def test_vision_config_of_a_whole_clip() -> None:
    clip = {"model_type": "clip", "vision_config": {"hidden_size": 72, "num_attention_heads": 9, "patch_size": 7}}
    config = vision_config(clip, "a")
    assert (config["hidden_size"], config["num_attention_heads"], config["patch_size"]) == (72, 9, 7)
    assert config["hidden_act"] == "quick_gelu"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("function", "config", "message"),
    [
        (language_config, {"model_type": "mistral"}, "a: expected a LLaMA language model, got model_type 'mistral'"),
        (vision_config, {"model_type": "siglip_vision_model"}, "expected CLIP's vision tower, got model_type 'siglip"),
        (legacy_settings, {"mm_projector_type": "resampler"}, "expected one of linear, mlp2x_gelu, got 'resampler'"),
        (
            legacy_settings,
            {"mm_vision_select_feature": "cls_patch"},
            r"without the class position \(patch\), got 'cls_patch'",
        ),
        (
            hf_settings,
            {"vision_feature_select_strategy": "full"},
            r"without the class position \(default\), got 'full'",
        ),
        (hf_settings, {"vision_feature_layer": [-2, -1]}, r"features of one layer.*got \[-2, -1\]"),
        (hf_settings, {"projector_hidden_act": "relu"}, "expected a projector with GELU and bias, got .* 'relu'"),
        (hf_settings, {"multimodal_projector_bias": False}, "multimodal_projector_bias False"),
    ],
)
def test_other_kinds_are_refused(function: Callable[..., object], config: dict[str, Any], message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        function(config, "a")


@pytest.mark.faults
def test_a_tower_that_tells_too_little() -> None:
    with pytest.raises(CheckpointError, match=r"a width that is a multiple of 64 .*got 100.*--vision"):
        vision_config_of(shapes(100))
    with pytest.raises(CheckpointError, match=r"found no vision_tower\.embeddings\.patch_embedding\.weight"):
        vision_config_of({})
