from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from mgie_lit.config.build import build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.models.freezing import frozen_roots, is_frozen, set_trainable

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "trainable_paper_tiny.json"


class Block(nn.Module):
    """A part with a dropout and a frozen neighbour."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Linear(2, 3), nn.Dropout(0.5), nn.Linear(3, 4))
        self.second = nn.Sequential(nn.Linear(4, 5), nn.Dropout(0.5))
        self.dropout = nn.Dropout(0.5)


@pytest.fixture
def block() -> Block:
    return Block()


def test_exactly_what_matches_trains(block: Block) -> None:
    names = set_trainable(block, ["first.2.*", "*.bias"])
    assert names == ["first.0.bias", "first.2.weight", "first.2.bias", "second.0.bias"]
    assert [name for name, parameter in block.named_parameters() if parameter.requires_grad] == names


def test_a_second_call_starts_afresh(block: Block) -> None:
    set_trainable(block, ["second.*"])
    assert set_trainable(block, ["first.0.weight"]) == ["first.0.weight"]
    assert is_frozen(block.second)


def test_frozen_parameters_lose_their_gradient(block: Block) -> None:
    for parameter in block.parameters():
        parameter.grad = torch.ones_like(parameter)
    set_trainable(block, ["first.0.*"])
    assert block.first[0].weight.grad is not None
    assert block.first[2].weight.grad is None
    assert block.second[0].bias.grad is None


def test_star_is_everything(block: Block) -> None:
    assert len(set_trainable(block, ["*"])) == 6
    assert not is_frozen(block)


def test_nothing_may_train(block: Block) -> None:
    assert set_trainable(block, []) == []
    assert is_frozen(block)


def test_pattern_without_a_match(block: Block) -> None:
    message = r"trainable: pattern 'third\.\*' matches no parameter; names look like 'first.0.weight'"
    with pytest.raises(ValueError, match=message):
        set_trainable(block, ["first.*", "third.*"])
    assert all(parameter.requires_grad for parameter in block.parameters()), "nothing was changed"


def test_frozen_roots_are_the_largest_frozen_parts(block: Block) -> None:
    set_trainable(block, ["first.2.*"])
    assert frozen_roots(block) == [block.first[0], block.second]
    set_trainable(block, [])
    assert frozen_roots(block) == [block]
    set_trainable(block, ["*"])
    assert frozen_roots(block) == []


def test_dropout_of_a_part_that_trains_is_no_frozen_root(block: Block) -> None:
    set_trainable(block, ["first.*"])
    roots = frozen_roots(block)
    assert roots == [block.second]
    assert block.first[1] not in roots
    assert block.dropout not in roots


def test_golden_names_of_the_tiny_system() -> None:
    """``size=tiny trainable=paper`` trains word embeddings, LM head, edit head and UNet, by name."""
    golden = json.loads(GOLDEN.read_text())
    config = compose_config("train", golden["origin"]["overrides"])
    editor = build_editor(config)
    names = set_trainable(editor, list(config.model.trainable[config.trainable]))
    assert names == golden["names"]
    trained_parts = {"guide.mllm.language_model.model.embed_tokens", "guide.mllm.language_model.lm_head"}
    for name, _ in editor.named_parameters():
        part = name.removesuffix(".weight")
        assert (name in names) == (part in trained_parts or name.startswith(("guide.edit_head.", "unet."))), name
