from __future__ import annotations

import copy

import torch
from torch import nn

from mgie_lit.models.layout import lay_for_editing, lay_plain
from mgie_lit.testing.tiny_models import tiny_editor


def layouts(module: nn.Module) -> dict[str, tuple[int, ...]]:
    return {name: parameter.stride() for name, parameter in module.named_parameters()}


def test_values_and_names_stay_and_it_can_be_undone() -> None:
    plain = tiny_editor("kl")
    laid = copy.deepcopy(plain)
    lay_for_editing(laid)
    assert laid.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    language_model = laid.guide.mllm.language_model  # type: ignore[union-attr]
    head, table = language_model.lm_head.weight, language_model.get_input_embeddings().weight  # type: ignore[union-attr, operator]
    assert head.t().is_contiguous()  # type: ignore[union-attr, operator]
    assert table.is_contiguous(), "it is looked up row by row"
    before, after = plain.state_dict(), laid.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(value, after[name]) for name, value in before.items())
    where = [parameter.data_ptr() for parameter in laid.parameters()]
    lay_for_editing(laid)
    assert [parameter.data_ptr() for parameter in laid.parameters()] == where
    lay_plain(laid)
    assert layouts(laid) == layouts(plain)


def test_a_tied_head_stays_a_table_and_half_precision_stays_as_it_is() -> None:
    editor = tiny_editor("kl")
    language_model = editor.guide.mllm.language_model  # type: ignore[union-attr]
    language_model.lm_head.weight = language_model.get_input_embeddings().weight  # type: ignore[union-attr, operator]
    lay_for_editing(editor)
    assert language_model.lm_head.weight.is_contiguous()  # type: ignore[union-attr]
    half = tiny_editor("kl").to(torch.bfloat16)
    lay_for_editing(half.guide)
    assert all(parameter.is_contiguous() for parameter in half.guide.parameters())
