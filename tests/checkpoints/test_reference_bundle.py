"""Published folders made of a recorded bundle go through ``mgie convert`` and give the recorded image.

The bundle's folder is named by MGIE_REFERENCE_BUNDLE; its format: seeds and shapes of weights that are drawn again,
texts, pictures, and what the released code made of them.
"""

from __future__ import annotations

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from mgie_lit.checkpoints.conversion.mllm import open_tokenizer
from mgie_lit.cli.main import main
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.vocabulary import NUM_VISUAL_TOKENS

LARGEST_DIFFERENCE = 1 / 255
CASES = ("infer_B", "infer_E", "infer_G")

ADDED_TOKENS = {"<im_patch>": 32000, "<im_start>": 32001, "<im_end>": 32002}  # LLaVA's
TOKENIZER_CONFIG = {
    "tokenizer_class": "LlamaTokenizer",
    "add_bos_token": True,
    "add_eos_token": False,
    "model_max_length": 2048,
    "pad_token": None,
    **{
        f"{kind}_token": {"__type": "AddedToken", "content": text, "normalized": True}
        for kind, text in (("bos", "<s>"), ("eos", "</s>"), ("unk", "<unk>"))
    },
}


class Bundle:
    """What a bundle's manifests say."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.manifest = json.loads((folder / "train_manifest.json").read_text())
        self.inference = json.loads((folder / "infer_manifest.json").read_text())

    def weights(self, prefix: str) -> dict[str, Tensor]:
        """Weights whose name begins with ``prefix``, without it."""
        named = {name: entry for name, entry in self.manifest["weights"].items() if name.startswith(prefix)}
        return {name.removeprefix(prefix): self._draw(name, entry) for name, entry in named.items()}

    def case(self, beginning: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Entry and recorded tensors of an inference case."""
        files = sorted(self.folder.glob(f"{beginning}*.safetensors"))
        if not files:
            pytest.skip(f"the bundle has no {beginning}")
        name = files[0].stem.removeprefix("infer_")
        return self.inference["cases"][name], load_file(files[0])

    def _draw(self, name: str, entry: dict[str, Any]) -> Tensor:
        random = np.random.RandomState((zlib.crc32(name.encode()) ^ self.manifest["seed"]) & 0xFFFFFFFF)
        mean, std = entry["rule"]
        values = random.standard_normal(int(np.prod(entry["shape"]))) * std + mean
        return torch.from_numpy(values.astype(np.float32).reshape(entry["shape"]))


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    value = os.environ.get("MGIE_REFERENCE_BUNDLE")
    if not value:
        pytest.skip("MGIE_REFERENCE_BUNDLE is not set: it names a folder with recorded numbers of the released code")
    return Bundle(Path(value))


@pytest.fixture(scope="session")
def published(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """LLaVA, CLIP and pipeline folders as they are published, without Apple's two files."""
    root = tmp_path_factory.mktemp("published")
    write_llava(bundle, root / "llava")
    write_clip(bundle, root / "clip")
    write_pipeline(bundle, root / "diffusion")
    return root


def write_llava(bundle: Bundle, folder: Path) -> None:
    """Legacy LLaVA in two .bin shards, with the vocabulary that it has before MGIE's tokens."""
    folder.mkdir()
    arguments, sizes = bundle.manifest["model_args"], bundle.manifest["config"]["llm"]
    vocab_size = arguments["llama"]["vocab_size"] - NUM_VISUAL_TOKENS
    config = {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        **arguments["llama"],
        **sizes,
        "vocab_size": vocab_size,
        "mm_vision_tower": "openai/clip-vit-large-patch14",
        "mm_vision_select_layer": arguments["clip"]["select_layer"],
    }
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copyfile(bundle.folder / "tokenizer.model", folder / "tokenizer.model")
    (folder / "tokenizer_config.json").write_text(json.dumps(TOKENIZER_CONFIG))
    (folder / "added_tokens.json").write_text(json.dumps(ADDED_TOKENS))
    language = {
        f"model.{name}": value for name, value in bundle.weights("model.").items() if "vision_tower" not in name
    }
    language["lm_head.weight"] = torch.zeros(vocab_size, sizes["hidden_size"])  # Apple's file has the one that counts
    language["model.embed_tokens.weight"] = torch.zeros(vocab_size, sizes["hidden_size"])
    names = list(language)
    shards = [names[: len(names) // 2], names[len(names) // 2 :]]
    files = [f"pytorch_model-{number:05d}-of-00002.bin" for number in (1, 2)]
    for file, shard in zip(files, shards, strict=True):
        torch.save({name: language[name] for name in shard}, folder / file)
    weight_map = {name: file for file, shard in zip(files, shards, strict=True) for name in shard}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def write_clip(bundle: Bundle, folder: Path) -> None:
    """OpenAI's CLIP, of which the text side is a stub."""
    folder.mkdir()
    vision = {
        **bundle.manifest["config"]["clip"],
        "projection_dim": bundle.manifest["model_args"]["clip"]["projection_dim"],
    }
    (folder / "config.json").write_text(json.dumps({"model_type": "clip", "vision_config": vision}))
    tower = {
        f"vision_model.{name}": value for name, value in bundle.weights("model.vision_tower.vision_model.").items()
    }
    tower["vision_model.embeddings.position_ids"] = torch.arange(3)[None]
    torch.save(
        {**tower, "logit_scale": torch.tensor(1.0), "text_model.a.weight": torch.zeros(2)}, folder / "pytorch_model.bin"
    )


def write_pipeline(bundle: Bundle, folder: Path) -> None:
    """A diffusers pipeline: another UNet's weights, the autoencoder under diffusers' first names."""
    arguments, sizes = bundle.manifest["model_args"], bundle.manifest["config"]
    unet = {key: value for key, value in arguments["unet"].items() if key != "note"} | {
        "_class_name": "UNet2DConditionModel",
        "block_out_channels": sizes["unet"],
        "down_block_types": sizes["unet_down"],
        "up_block_types": sizes["unet_up"],
        "layers_per_block": sizes["layers"],
        "in_channels": 4,
    }
    vae = {key: value for key, value in arguments["vae"].items() if key != "note"} | {
        "_class_name": "AutoencoderKL",
        "block_out_channels": sizes["vae"],
        "norm_num_groups": sizes["vae_groups"],
        "layers_per_block": sizes["layers"],
    }
    for name, config in (("unet", unet), ("vae", vae)):
        (folder / name).mkdir(parents=True)
        (folder / name / "config.json").write_text(json.dumps(config))
    torch.save({"conv_in.weight": torch.zeros(1)}, folder / "unet" / "diffusion_pytorch_model.bin")
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    weights = bundle.weights("vae.")
    for new_name, old_name in old.items():
        weights = {name.replace(f".{new_name}.", f".{old_name}."): value for name, value in weights.items()}
    torch.save(weights, folder / "vae" / "diffusion_pytorch_model.bin")


def write_apple(bundle: Bundle, folder: Path, recorded: dict[str, Tensor]) -> None:
    folder.mkdir()
    mllm = {f"edit_head.{name}": value for name, value in bundle.weights("edit_head.").items()}
    mllm["model.embed_tokens.weight"] = bundle.weights("model.embed_tokens.")["weight"]
    lm_head = bundle.weights("lm_head.")["weight"]
    if "lm_head.rows" in recorded:
        lm_head[recorded["lm_head.rows"]] = recorded["lm_head.values"]
    torch.save({**mllm, "lm_head.weight": lm_head, "emb": recorded["EMB"]}, folder / "mllm.pt")
    torch.save(bundle.weights("unet."), folder / "unet.pt")


@pytest.fixture(params=CASES)
def exported(
    request: pytest.FixtureRequest, bundle: Bundle, published: Path, tmp_path: Path
) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    case, recorded = bundle.case(request.param)
    write_apple(bundle, tmp_path / "apple", recorded)
    scheduler = dict(case["scheduler"])
    config = {"_class_name": scheduler.pop("cls"), **scheduler}
    (published / "diffusion" / "scheduler").mkdir(exist_ok=True)
    (published / "diffusion" / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    flags = ["--from", "apple", "--to", "export"]
    for option in ("llava", "diffusion"):
        flags += [f"--{option}", str(published / option)]
    main(["convert", str(tmp_path / "apple"), str(tmp_path / "export"), *flags, "--vision", str(published / "clip")])
    return tmp_path / "export", case, recorded


def give_noise(monkeypatch: pytest.MonkeyPatch, recorded: dict[str, Tensor]) -> None:
    """Let the scheduler draw the recorded noise."""
    from diffusers.schedulers import scheduling_euler_ancestral_discrete as module

    steps: Iterator[Tensor] = (recorded[f"pipe.step_noise.{step}"] for step in range(len(recorded["pipe.timesteps"])))
    monkeypatch.setattr(module, "randn_tensor", lambda *_, **__: next(steps))


@pytest.mark.slow
def test_the_converted_model_paints_the_recorded_image(
    exported: tuple[Path, dict[str, Any], dict[str, Tensor]], bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, case, recorded = exported
    pipeline = MGIEPipeline.from_pretrained(folder)
    give_noise(monkeypatch, recorded)
    guidance_scale, image_guidance_scale = bundle.inference["guidance"]
    result = pipeline(
        Image.fromarray(recorded["input_image_u8"].numpy()),
        case["instruction"],
        num_inference_steps=bundle.inference["steps"],
        guidance_scale=guidance_scale,
        image_guidance_scale=image_guidance_scale,
        latents=recorded["pipe.latents"],
    )
    image = np.asarray(result.images[0], dtype=np.float32) / 255
    assert np.abs(image - recorded["pipe.image_float"].numpy()).max() <= LARGEST_DIFFERENCE
    assert np.abs(image - np.asarray(recorded["input_image_u8"]) / 255).mean() > 0.05  # it is not the source


@pytest.mark.slow
def test_stored_embeddings_are_those_that_count(exported: tuple[Path, dict[str, Any], dict[str, Tensor]]) -> None:
    folder, _, recorded = exported
    head = load_file(folder / "edit_head" / "diffusion_pytorch_model.safetensors")
    assert torch.equal(head["stored_embeddings"], recorded["EMB"][0])


def test_the_tokenizer_is_sentencepieces(published: Path) -> None:
    """A config of model_type llava beside it must not change how the first word is cut."""
    import sentencepiece

    words = sentencepiece.SentencePieceProcessor(model_file=str(published / "llava" / "tokenizer.model"))
    tokenizer = open_tokenizer(published / "llava")
    text = "what will this image be like if 'make it red'"
    assert tokenizer.encode(text, add_special_tokens=False) == words.encode(text)
    assert {token: tokenizer.convert_tokens_to_ids(token) for token in ADDED_TOKENS} == ADDED_TOKENS
