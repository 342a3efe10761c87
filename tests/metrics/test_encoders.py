from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.metrics.encoders import ClipImageEncoder, DinoEncoder, TransformersEncoder, hash_weights
from mgie_lit.metrics.features import ClipI

if TYPE_CHECKING:
    from pathlib import Path

VIT = {
    "hidden_size": 24,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {"vocab_size": 50, "hidden_size": 16, "intermediate_size": 28, "num_hidden_layers": 1, "num_attention_heads": 2}
TEXT |= {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
SQUARE = {"height": 32, "width": 32}


@pytest.fixture(scope="module")
def clip_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    torch.manual_seed(3)
    config = transformers.CLIPConfig(text_config=TEXT, vision_config=VIT, projection_dim=12)
    transformers.CLIPModel(config).save_pretrained(folder)
    transformers.CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def vit_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As published DINO folders: old names, no pooling layer, a size as one number."""
    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(4)
    transformers.ViTModel(transformers.ViTConfig(**VIT), add_pooling_layer=False).save_pretrained(folder)
    settings: dict[str, Any] = {"feature_extractor_type": "ViTFeatureExtractor", "size": 32, "resample": 2}
    settings |= {"do_resize": True, "do_normalize": True, "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.3, 0.25]}
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    return folder


@pytest.fixture(scope="module")
def dinov2_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dinov2")
    torch.manual_seed(5)
    sizes = {key: value for key, value in VIT.items() if key != "intermediate_size"}
    transformers.Dinov2Model(transformers.Dinov2Config(**sizes)).save_pretrained(folder)
    transformers.BitImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE).save_pretrained(folder)
    return folder


def pictures() -> list[Image.Image]:
    rng = np.random.default_rng(0)
    sizes = [(32, 32), (50, 40), (33, 64), (1, 1), (3, 90)]
    return [Image.fromarray(rng.integers(256, size=(h, w, 3), dtype=np.uint8)) for w, h in sizes]


def normalised(image: Image.Image, mean: list[float], std: list[float]) -> torch.Tensor:
    """Plain second implementation for images that already have the right size."""
    pixels = (np.asarray(image, dtype=np.float64) / 255.0 - mean) / std
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float()


def test_clip_equals_the_projected_embedding(clip_dir: Path) -> None:
    features = ClipImageEncoder(clip_dir).encode(pictures())
    assert features.shape == (5, 12)
    assert features.dtype == torch.float32
    model = transformers.CLIPModel.from_pretrained(clip_dir).eval()
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    with torch.no_grad():
        pooled = model.vision_model(normalised(pictures()[0], mean, std)).pooler_output
        expected = pooled @ model.visual_projection.weight.T
    torch.testing.assert_close(features[:1], expected, rtol=1e-4, atol=1e-5)


def test_vit_equals_the_class_token(vit_dir: Path) -> None:
    features = DinoEncoder(vit_dir).encode(pictures())
    assert features.shape == (5, 24)
    model = transformers.ViTModel.from_pretrained(vit_dir, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = model(normalised(pictures()[0], [0.4, 0.5, 0.6], [0.2, 0.3, 0.25])).last_hidden_state[:, 0]
    torch.testing.assert_close(features[:1], expected, rtol=1e-4, atol=1e-5)


def test_dinov2_equals_its_pooled_output(dinov2_dir: Path) -> None:
    encoder = DinoEncoder(str(dinov2_dir))
    features = encoder.encode(pictures())
    model = transformers.Dinov2Model.from_pretrained(dinov2_dir).eval()
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    with torch.no_grad():
        expected = model(normalised(pictures()[0], mean, std)).pooler_output
    torch.testing.assert_close(features[:1], expected, rtol=1e-4, atol=1e-5)
    assert encoder.identity()["model_type"] == "dinov2"


def test_batches_do_not_change_features(clip_dir: Path) -> None:
    one_by_one = ClipImageEncoder(clip_dir, batch_size=1).encode(pictures())
    torch.testing.assert_close(ClipImageEncoder(clip_dir, batch_size=4).encode(pictures()), one_by_one)


def test_identity_pins_model_preprocessing_and_weights(clip_dir: Path, tmp_path: Path) -> None:
    identity = ClipImageEncoder(clip_dir).identity()
    assert identity["source"] == str(clip_dir)
    assert identity["model_type"] == "clip"
    preprocessing = identity["preprocessing"]
    assert isinstance(preprocessing, dict)
    assert preprocessing["size"] == {"shortest_edge": 32}
    assert preprocessing["crop_size"] == SQUARE
    assert preprocessing["resample"] == "bicubic"
    assert preprocessing["class"] == "CLIPImageProcessorPil"
    assert preprocessing["mean"] == pytest.approx([0.48145466, 0.4578275, 0.40821073])
    json.dumps(identity)

    model = transformers.CLIPModel.from_pretrained(clip_dir)
    with torch.no_grad():
        model.visual_projection.weight[0, 0] += 0.5
    model.save_pretrained(tmp_path)
    shutil.copy(clip_dir / "preprocessor_config.json", tmp_path)
    assert ClipImageEncoder(tmp_path).identity()["weights_sha256"] != identity["weights_sha256"]


def test_hash_covers_names_prefixes_and_every_dtype() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)).to(torch.bfloat16)
    assert hash_weights(model) == hash_weights(model)
    assert hash_weights(model, ("0.",)) != hash_weights(model)
    before = hash_weights(model, ("0.",))
    with torch.no_grad():
        model[1].bias.add_(1.0)
    assert hash_weights(model, ("0.",)) == before


def test_metric_with_a_loaded_encoder(clip_dir: Path) -> None:
    metric = ClipI(ClipImageEncoder(clip_dir))
    metric.update(pictures(), pictures())
    assert metric.compute().item() == pytest.approx(1.0, abs=1e-5)


def test_nothing_is_read_before_the_first_use() -> None:
    ClipImageEncoder(None)
    DinoEncoder("/no/such/folder")


@pytest.mark.parametrize(("kind", "key"), [(ClipImageEncoder, "clip"), (DinoEncoder, "dino")])
def test_no_source_says_what_to_do(kind: type[TransformersEncoder], key: str) -> None:
    message = (
        rf"encoders.{key}: expected a folder or a hub id .* got nothing; "
        rf"fetch config.json, preprocessor_config.json and model.safetensors .* from "
        rf"https://huggingface.co/{kind.recommended}, .* and give encoders.{key}=weights/{key}; "
        rf"or let them be downloaded now by encoders.{key}={kind.recommended}"
    )
    with pytest.raises(ConfigError, match=message):
        kind(None).encode(pictures())


@pytest.mark.parametrize("source", ["/no/such/folder", "clip", "./weights/clip", "a/b/c"])
def test_what_is_neither_folder_nor_hub_id_is_refused(source: str) -> None:
    with pytest.raises(
        ConfigError, match=f"encoders.clip: .*got {source}, which is neither a folder here nor a hub id"
    ):
        ClipImageEncoder(source).identity()


def test_hub_id_that_can_not_be_had_names_the_remedy() -> None:
    with pytest.raises(
        CheckpointError, match=r"encoders.dino: nobody/nothing \(no such folder here.*encoders.dino=weights/dino"
    ):
        DinoEncoder("nobody/nothing").encode(pictures())


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_missing_file_is_named(vit_dir: Path, tmp_path: Path, name: str) -> None:
    for path in vit_dir.iterdir():
        if path.name != name:
            shutil.copy(path, tmp_path)
    with pytest.raises(
        CheckpointError, match=rf"encoders.dino: expected config.json, .* in {tmp_path}, got no {name}; fetch"
    ):
        DinoEncoder(tmp_path).encode(pictures())


def test_wrong_kind_of_model_is_named(vit_dir: Path) -> None:
    with pytest.raises(CheckpointError, match=r"encoders.clip: expected a model of type clip in .*, got vit; fetch"):
        ClipImageEncoder(vit_dir).encode(pictures())


def test_random_weights_are_never_used(vit_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(vit_dir, tmp_path, dirs_exist_ok=True)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 3}))
    with pytest.raises(
        CheckpointError, match=r"encoders.dino: expected all weights in .*, got none for .*layer.*\(16 tensors\)"
    ):
        DinoEncoder(tmp_path).encode(pictures())


def test_unknown_preprocessing_is_named(vit_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(vit_dir, tmp_path, dirs_exist_ok=True)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_processor_type": "Magic"}))
    with pytest.raises(CheckpointError, match=r"encoders.dino: expected image_processor_type .* got Magic"):
        DinoEncoder(tmp_path).encode(pictures())


def test_broken_weights_are_named(vit_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(vit_dir, tmp_path, dirs_exist_ok=True)
    (tmp_path / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(CheckpointError, match=rf"encoders.dino: {tmp_path} can not be loaded: "):
        DinoEncoder(tmp_path).encode(pictures())
