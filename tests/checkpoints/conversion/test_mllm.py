from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from mgie_lit.checkpoints.conversion.mllm import convert_delta, convert_llava
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.errors import CheckpointError
from mgie_lit.models.mllm import MLLM
from mgie_lit.testing import published_weights as published
from mgie_lit.testing.tiny_models import tiny_mllm

WORDS = ("model.embed_tokens.weight", "lm_head.weight")


def opened(export: Path) -> MLLM:
    mllm: MLLM = MLLM.from_pretrained(export / "mllm", use_safetensors=True)
    return mllm


def integers(mllm: MLLM, seed: int) -> MLLM:
    """Small whole numbers, whose sums and differences are exact."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in mllm.state_dict().values():
            value.copy_(torch.randint(-99, 99, value.shape, generator=generator))
    return mllm


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
@pytest.mark.parametrize("is_inside", [True, False])
def test_llava_becomes_a_part(suffix: str, is_inside: bool, tmp_path: Path, mllm: MLLM) -> None:
    clip = None if is_inside else published.write_clip(tmp_path / "clip", mllm, suffix=suffix)
    folder = published.write_llava(tmp_path / "llava", mllm, tower=clip, suffix=suffix, stem="model", num_shards=3)
    convert_llava(folder, tmp_path / "export")
    loaded = opened(tmp_path / "export")
    assert loaded.state_dict().keys() == mllm.state_dict().keys()
    assert all(torch.equal(value, mllm.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert sorted(path.name for path in (tmp_path / "export").iterdir()) == [
        "README.md",
        "image_processor",
        "mllm",
        "tokenizer",
    ]
    assert loaded.image_patch_id == mllm.image_patch_id
    assert loaded.vision_layer == mllm.vision_layer
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "export" / "tokenizer")
    assert tokenizer.convert_tokens_to_ids("[IMG7]") == 511
    processor = json.loads((tmp_path / "export" / "image_processor" / "preprocessor_config.json").read_text())
    assert processor["crop_size"] == {"height": 42, "width": 42}


def test_a_two_layer_projector_is_kept(tmp_path: Path, mllm: MLLM) -> None:
    two: MLLM = MLLM(**{key: value for key, value in mllm.config.items() if key[0] != "_"} | {"projector_layers": 2})
    convert_llava(published.write_llava(tmp_path / "llava", two), tmp_path / "export")
    loaded = opened(tmp_path / "export")
    assert torch.equal(loaded.state_dict()["projector.2.weight"], two.state_dict()["projector.2.weight"])


def test_an_export_is_read_again(tmp_path: Path, llava: Path) -> None:
    convert_llava(llava, tmp_path / "once")
    convert_llava(tmp_path / "once", tmp_path / "twice")
    once, twice = (open_weights(tmp_path / name / "mllm") for name in ("once", "twice"))
    assert all(torch.equal(value.load(), twice[name].load()) for name, value in once.items())
    once_config, twice_config = ((tmp_path / name / "mllm" / "config.json").read_text() for name in ("once", "twice"))
    assert once_config == twice_config


@pytest.mark.parametrize("num_base_rows", [530, 519])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_base_plus_delta_is_the_target(
    num_base_rows: int, dtype: torch.dtype, tmp_path: Path, mllm: MLLM, other_mllm: MLLM
) -> None:
    target = published.legacy_llava_tensors(integers(mllm, 1), has_tower=False)
    base = published.legacy_llava_tensors(integers(other_mllm, 2), num_rows=num_base_rows, has_tower=False)
    base = {name: value for name, value in base.items() if "projector" not in name}
    delta = {name: value.clone() for name, value in target.items()}
    for name, value in base.items():
        delta[name][: len(value)] -= value
    clip = published.write_clip(tmp_path / "clip", mllm)
    folder = published.write_llava(tmp_path / "delta", mllm, tower=clip)
    for file in folder.glob("*.bin*"):
        file.unlink()
    published.write_shards(folder, {name: value.to(dtype) for name, value in delta.items()}, num_shards=2)
    published.write_shards(tmp_path / "base", {name: base[name].half() for name in reversed(base)}, num_shards=3)
    convert_delta(folder, tmp_path / "export", base=tmp_path / "base")
    loaded = opened(tmp_path / "export").state_dict()
    assert all(torch.equal(value, mllm.state_dict()[name]) for name, value in loaded.items())
    written = open_weights(tmp_path / "export" / "mllm")
    assert {one.dtype for name, one in written.items() if name.startswith("language_model.")} == {dtype}


def test_vicunas_delta_gives_a_language_model(tmp_path: Path) -> None:
    target, base = integers(tiny_mllm(None, has_vision=False), 1), integers(tiny_mllm(None, has_vision=False), 2)
    tensors = [published.legacy_llava_tensors(one) for one in (target, base)]
    delta = {name: tensors[0][name] - tensors[1][name] for name in tensors[0]}
    folder = published.write_llava(tmp_path / "delta", target, tower=Path("none"))
    config = published.legacy_llava_config(target, model_type="llama", architectures=["LlamaForCausalLM"])
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "pytorch_model.bin").unlink()
    published.write_shards(folder, delta)
    published.write_shards(tmp_path / "base", tensors[1])
    convert_delta(folder, tmp_path / "export", base=tmp_path / "base")
    loaded = opened(tmp_path / "export")
    assert loaded.vision_tower is None
    assert all(torch.equal(value, target.state_dict()[name]) for name, value in loaded.state_dict().items())
    assert not (tmp_path / "export" / "image_processor").exists()


@pytest.mark.faults
class TestFaults:
    def test_another_base(self, tmp_path: Path, llava: Path, mllm: MLLM) -> None:
        tensors = published.legacy_llava_tensors(mllm, has_tower=False)
        del tensors["model.norm.weight"]
        tensors["model.layers.0.mlp.up_proj.weight"] = torch.ones(3, 4)
        tensors["model.layers.2.mlp.up_proj.weight"] = torch.ones(3, 4)
        tensors = {name: value for name, value in tensors.items() if "projector" not in name}
        published.write_shards(tmp_path / "base", tensors)
        with pytest.raises(CheckpointError) as caught:
            convert_delta(llava, tmp_path / "export", base=tmp_path / "base")
        assert "base (base of " in str(caught.value)
        assert str(caught.value).splitlines()[1:] == [
            "missing (1):",
            "  base: model.norm.weight",
            "unexpected (1):",
            "  base: model.layers.2.mlp.up_proj.weight (3, 4)",
            "wrong shape (3):",
            "  base: model.embed_tokens.weight has shape (530, 40) instead of (504, 40)",
            "  base: model.layers.0.mlp.up_proj.weight has shape (3, 4) instead of (52, 40)",
            "  base: lm_head.weight has shape (530, 40) instead of (504, 40)",
        ]
        assert not (tmp_path / "export").exists()

    def test_a_config_of_another_model(self, tmp_path: Path, llava: Path) -> None:
        config = json.loads((llava / "config.json").read_text())
        (llava / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))
        with pytest.raises(CheckpointError, match=r"mllm: model\.layers\.2\.self_attn\.q_proj\.weight"):
            convert_llava(llava, tmp_path / "export")
        (llava / "config.json").write_text(json.dumps({**config, "num_attention_heads": 7}))
        with pytest.raises(
            CheckpointError, match=r"a config that transformers takes, got one it refuses .*number of attention heads"
        ):
            convert_llava(llava, tmp_path / "export")
