from __future__ import annotations

import copy

import torch
from torch import nn

from mgie_lit.editor import Editor
from mgie_lit.models.layout import lay_for_editing, lay_for_training, release
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
    lay_for_training(laid)
    assert layouts(laid) == layouts(plain)


def test_what_is_being_trained_stays_plain_in_whatever_holds_it() -> None:
    editor = tiny_editor("kl")
    plain = layouts(editor)
    lay_for_training(editor)
    other = Editor(editor.guide, editor.autoencoder, editor.unet, editor.scheduler)  # type: ignore[arg-type]
    lay_for_editing(other)
    assert layouts(editor) == plain
    release(editor)
    lay_for_editing(other)
    assert layouts(editor) != plain


def test_laid_without_gradients_it_can_be_trained_later() -> None:
    editor = tiny_editor("kl")
    with torch.inference_mode():
        lay_for_editing(editor)
    assert not any(parameter.is_inference() for parameter in editor.parameters())


def test_what_is_moved_or_converted_lies_plainly_again() -> None:
    editor = tiny_editor("kl")
    head = editor.guide.mllm.language_model.lm_head  # type: ignore[union-attr]
    lay_for_editing(editor)
    editor.to(torch.bfloat16)
    assert not head.weight.is_contiguous()  # type: ignore[union-attr, operator]
    lay_for_editing(editor)
    assert head.weight.is_contiguous()  # type: ignore[union-attr, operator]


def test_a_tied_head_stays_a_table_and_half_precision_stays_as_it_is() -> None:
    editor = tiny_editor("kl")
    language_model = editor.guide.mllm.language_model  # type: ignore[union-attr]
    language_model.lm_head.weight = language_model.get_input_embeddings().weight  # type: ignore[union-attr, operator]
    lay_for_editing(editor)
    assert language_model.lm_head.weight.is_contiguous()  # type: ignore[union-attr]
    half = tiny_editor("kl").to(torch.bfloat16)
    lay_for_editing(half.guide)
    assert all(parameter.is_contiguous() for parameter in half.guide.parameters())
