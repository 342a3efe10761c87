from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from safetensors import safe_open
from safetensors.torch import load_file

from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.checkpoints.writing import lazy_of, write_safetensors, write_weights
from mgie_lit.editor import Editor

DTYPES = [
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
    torch.float8_e4m3fn,
    torch.float8_e5m2,
]


def test_every_type_and_layout_reads_back(tmp_path: Path) -> None:
    tensors = {f"t{index}": torch.arange(index + 3).to(dtype) for index, dtype in enumerate(DTYPES)}
    tensors |= {"turned": torch.arange(6.0).reshape(2, 3).T, "scalar": torch.tensor(2.5), "empty": torch.ones(0, 4)}
    tensors["part"] = torch.arange(10.0)[3:5]
    file = tmp_path / "a.safetensors"
    write_safetensors(file, lazy_of(tensors, file))
    with safe_open(file, framework="pt") as opened:
        assert opened.metadata() == {"format": "pt"}
        for name, value in tensors.items():
            assert opened.get_tensor(name).dtype == value.dtype
            read = opened.get_tensor(name)
            assert read.shape == value.shape
            assert torch.equal(read.reshape(-1).view(torch.uint8), value.reshape(-1).view(torch.uint8)), name


def test_shards_with_an_index_that_diffusers_reads(tmp_path: Path, editor: Editor) -> None:
    heard: list[tuple[str, int, int]] = []
    state = editor.unet.state_dict()
    editor.unet.save_config(tmp_path / "unet")
    write_weights(
        tmp_path / "unet", lazy_of(state, tmp_path), max_shard_bytes=40_000, on_bytes=lambda *args: heard.append(args)
    )
    files = sorted(tmp_path.glob("unet/*.safetensors"))
    index = json.loads((tmp_path / "unet" / "diffusion_pytorch_model.safetensors.index.json").read_text())
    total = sum(value.nbytes for value in state.values())
    assert len(files) > 3
    assert files[0].name == f"diffusion_pytorch_model-00001-of-{len(files):05d}.safetensors"
    assert index["metadata"]["total_size"] == total
    shards = [load_file(file) for file in files]
    assert all(len(shard) == 1 or sum(value.nbytes for value in shard.values()) <= 40_000 for shard in shards)
    assert (heard[-1], len(heard)) == (("unet", total, total), len(state))
    loaded = UNet2DConditionModel.from_pretrained(tmp_path / "unet", use_safetensors=True)
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


def test_a_tensor_that_is_larger_than_a_shard_has_its_own(tmp_path: Path) -> None:
    tensors = {"a": torch.ones(2), "b": torch.ones(50), "c": torch.ones(3)}
    write_weights(tmp_path, lazy_of(tensors, tmp_path), stem="model", max_shard_bytes=64)
    assert [path.name for path in sorted(tmp_path.glob("*.safetensors"))] == [
        f"model-0000{number}-of-00003.safetensors" for number in (1, 2, 3)
    ]
    assert list(open_weights(tmp_path)) == ["a", "b", "c"]


def test_tensors_are_loaded_one_by_one(tmp_path: Path) -> None:
    from dataclasses import replace

    alive: list[int] = []
    tensors = lazy_of({name: torch.ones(2) for name in "abc"}, tmp_path)
    counted = {
        name: replace(one, load=lambda one=one, name=name: alive.append(name) or one.load())  # type: ignore[misc]
        for name, one in tensors.items()
    }
    write_safetensors(tmp_path / "a.safetensors", counted, on_tensor=lambda num_bytes: alive.append(num_bytes))
    assert alive == ["a", 8, "b", 8, "c", 8]


def test_a_wrong_promise_is_caught(tmp_path: Path) -> None:
    from dataclasses import replace

    tensors = {"a": replace(lazy_of({"a": torch.ones(2)}, tmp_path)["a"], shape=(3,))}
    with pytest.raises(AssertionError, match="a is not what it was said to be"):
        write_safetensors(tmp_path / "a.safetensors", tensors)
