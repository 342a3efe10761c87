from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel

from mgie_lit.checkpoints.text_encoder import load_text_encoder, open_text_encoder
from mgie_lit.errors import CheckpointError
from mgie_lit.testing.tiny_models import CONDITION_DIM
from mgie_lit.testing.tiny_text import TEXT_LENGTH, tiny_text_encoder, write_instruct_pix2pix


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_instruct_pix2pix(tmp_path / "published", seed=3)


def as_published(folder: Path) -> None:
    """Spell the weights as the folders of 2022 do: under ``text_model.``, with a buffer of positions."""
    file = folder / "text_encoder" / "model.safetensors"
    tensors = {f"text_model.{name}": value for name, value in load_file(file).items()}
    tensors["text_model.embeddings.position_ids"] = torch.arange(TEXT_LENGTH)[None]
    save_file(tensors, file)


@pytest.mark.parametrize("is_old", [False, True])
def test_every_tensor_arrives(folder: Path, is_old: bool) -> None:
    expected = CLIPTextModel.from_pretrained(folder / "text_encoder")
    if is_old:
        as_published(folder)
    filled = tiny_text_encoder()
    load_text_encoder(filled, folder)
    for encoder in (filled, open_text_encoder(folder), open_text_encoder(folder / "text_encoder")):
        for name, value in expected.state_dict().items():
            assert torch.equal(encoder.state_dict()[name], value), name
        ids = torch.randint(9, (2, TEXT_LENGTH))
        assert torch.equal(encoder.eval()(ids).last_hidden_state, expected(ids).last_hidden_state)


@pytest.mark.faults
def test_other_sizes_are_refused_and_change_nothing(folder: Path) -> None:
    file = folder / "text_encoder" / "model.safetensors"
    tensors = load_file(file)
    tensors["final_layer_norm.bias"] = torch.zeros(CONDITION_DIM + 1)
    del tensors["final_layer_norm.weight"]
    save_file(tensors, file)
    encoder = tiny_text_encoder()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    with pytest.raises(CheckpointError, match=r"(?s)text_model.final_layer_norm.weight.*bias has shape \(21,\)"):
        load_text_encoder(encoder, folder)
    assert all(torch.equal(encoder.state_dict()[name], value) for name, value in before.items())


@pytest.mark.faults
def test_another_kind_of_encoder(folder: Path) -> None:
    file = folder / "text_encoder" / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"model_type": "t5"}))
    with pytest.raises(CheckpointError, match=r"config.json: expected model_type clip_text_model, got 't5'"):
        open_text_encoder(folder)
