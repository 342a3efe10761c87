from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
import transformers
from PIL import Image

from mgie_lit.errors import CheckpointError, ConfigError, DataError
from mgie_lit.metrics.encoder_files import hash_weights
from mgie_lit.metrics.encoders import ClipEncoder, DinoEncoder, TransformersEncoder
from mgie_lit.metrics.features import ClipI
from mgie_lit.metrics.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing

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
    features = ClipEncoder(clip_dir).encode(pictures())
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
    one_by_one = ClipEncoder(clip_dir, batch_size=1).encode(pictures())
    torch.testing.assert_close(ClipEncoder(clip_dir, batch_size=4).encode(pictures()), one_by_one)


def test_identity_pins_model_preprocessing_and_weights(clip_dir: Path, tmp_path: Path) -> None:
    identity = ClipEncoder(clip_dir).identity()
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
    assert ClipEncoder(tmp_path).identity()["weights_sha256"] != identity["weights_sha256"]


def test_hash_covers_names_prefixes_and_every_dtype() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(2, 3), torch.nn.Linear(3, 1)).to(torch.bfloat16)
    assert hash_weights(model) == hash_weights(model)
    assert hash_weights(model, ("0.",)) != hash_weights(model)
    before = hash_weights(model, ("0.",))
    with torch.no_grad():
        model[1].bias.add_(1.0)
    assert hash_weights(model, ("0.",)) == before


def test_metric_with_a_loaded_encoder(clip_dir: Path) -> None:
    metric = ClipI(ClipEncoder(clip_dir))
    metric.update(pictures(), pictures())
    assert metric.compute().item() == pytest.approx(1.0, abs=1e-5)


def test_nothing_is_read_before_the_first_use() -> None:
    ClipEncoder(None)
    DinoEncoder("/no/such/folder")


@pytest.mark.parametrize(("kind", "key"), [(ClipEncoder, "clip"), (DinoEncoder, "dino")])
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
        ClipEncoder(source).identity()


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
        ClipEncoder(vit_dir).encode(pictures())


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


@pytest.fixture
def talking_clip_dir(clip_dir: Path, tmp_path: Path) -> Path:
    """The CLIP with a tokenizer that knows a few letters."""
    folder = tmp_path / "talking"
    shutil.copytree(clip_dir, folder)
    words = ["<|startoftext|>", "<|unused|>", "<|endoftext|>", *"abcd", *(f"{letter}</w>" for letter in "abcd")]
    (folder / "vocab.json").write_text(json.dumps({word: index for index, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "CLIPTokenizer"}))
    return folder


def test_captions_equal_the_projected_text_embedding(talking_clip_dir: Path) -> None:
    features = ClipEncoder(talking_clip_dir).encode_texts(["abc", "a d", "b"], truncate=True)
    assert features.shape == (3, 12)
    model: Any = transformers.CLIPModel.from_pretrained(talking_clip_dir).eval()
    tokenizer: Any = transformers.AutoTokenizer.from_pretrained(talking_clip_dir)
    for text, feature in zip(["abc", "a d", "b"], features, strict=True):  # alone, so that nothing is padded
        ids = torch.tensor([tokenizer(text)["input_ids"]])
        with torch.no_grad():
            expected = model.text_projection(model.text_model(ids).pooler_output)[0]
        torch.testing.assert_close(feature, expected, rtol=1e-4, atol=1e-5)


def test_long_captions_are_cut_or_refused(talking_clip_dir: Path) -> None:
    encoder = ClipEncoder(talking_clip_dir)
    long = "a b c d " * 40
    assert encoder.encode_texts([long], truncate=True).isfinite().all()
    with pytest.raises(DataError, match=r"caption: expected at most 77 tokens, got 162 in 'a b c d .*truncate=true"):
        encoder.encode_texts(["a", long], truncate=False)


def test_captions_need_a_tokenizer(clip_dir: Path) -> None:
    with pytest.raises(
        CheckpointError, match=r"encoders.clip: expected tokenizer.json, or vocab.json and merges.txt, in"
    ):
        ClipEncoder(clip_dir).encode_texts(["a"], truncate=True)


def test_text_identity_is_of_the_text_tower(talking_clip_dir: Path) -> None:
    encoder = ClipEncoder(talking_clip_dir)
    assert encoder.text_identity()["feature"] == "projected text embedding"
    assert encoder.text_identity()["weights_sha256"] != encoder.identity()["weights_sha256"]


def test_preprocessing_of_a_protocol_replaces_the_folders(vit_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(vit_dir, tmp_path / "bare")
    (tmp_path / "bare/preprocessor_config.json").unlink()
    rules = Preprocessing(size=56, crop=48, mean=IMAGENET_MEAN, std=IMAGENET_STD)  # the model was made for 32 px
    encoder = DinoEncoder(tmp_path / "bare", preprocessing=rules)
    model: Any = transformers.ViTModel.from_pretrained(vit_dir, add_pooling_layer=False).eval()
    with torch.no_grad():
        expected = model(rules.pixels(pictures()[:2]), interpolate_pos_encoding=True).last_hidden_state[:, 0]
    torch.testing.assert_close(encoder.encode(pictures()[:2]), expected)
    assert encoder.identity()["preprocessing"] == rules.describe()


def test_clip_fills_in_its_own_side(clip_dir: Path) -> None:
    encoder = ClipEncoder(clip_dir, preprocessing=Preprocessing())
    preprocessing: Any = encoder.identity()["preprocessing"]
    assert preprocessing["crop_size"] == SQUARE
    torch.testing.assert_close(encoder.encode(pictures()[:1]), ClipEncoder(clip_dir).encode(pictures()[:1]))


def test_list_asked_for_again_is_not_encoded_again(clip_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = pictures()
    first = ClipEncoder(clip_dir).encode(images)
    other = ClipEncoder(clip_dir)
    monkeypatch.setattr(other, "features", None)  # would fail if it were asked
    assert torch.equal(other.encode(list(images)), first)
    with pytest.raises(TypeError):
        other.encode(images[:2])
