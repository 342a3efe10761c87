from __future__ import annotations

import copy
import subprocess
import sys

import pytest
import torch
from torch import Tensor

from mgie_lit.editor import Editor, Objective
from mgie_lit.models.freezing import set_trainable
from mgie_lit.models.training_layers import TrainingLlamaLayer, compile_layers, plain_layers, recompute_layers
from mgie_lit.testing.random_data import random_batch, random_draws
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.compute import Compute

SWITCHES = [{"checkpoint_language_model": True}, {"checkpoint_unet": True}]


def step(editor: Editor) -> tuple[dict[str, Tensor], int]:
    """Gradients, and bytes kept for the backward."""
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    batch = random_batch(editor)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = editor.losses(batch, random_draws(editor, batch), Objective()).loss
    loss.backward()  # type: ignore[no-untyped-call]
    return {name: p.grad for name, p in editor.named_parameters() if p.grad is not None}, sum(kept.values())


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_equal_to_the_last_bit_and_less_is_kept_where_layers_are_frozen(switch: dict[str, bool]) -> None:
    plain = tiny_editor("kl")
    set_trainable(plain, ["*.embed_tokens.*", "guide.edit_head.*", "unet.*"])
    plain.guide.mllm.eval()  # type: ignore[union-attr, operator]
    other = copy.deepcopy(plain)
    Compute(**switch).arrange(other)  # type: ignore[arg-type]
    (before, kept_before), (after, kept_after) = step(plain), step(other)
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []
    assert kept_after < 0.9 * kept_before


def test_new_rows_fill_no_cache_twice() -> None:
    plain = tiny_editor("kl")
    set_trainable(plain, ["*.embed_tokens.*", "guide.edit_head.*", "unet.*"])
    plain.guide.train_embeddings = "new_rows"  # type: ignore[assignment]
    other = copy.deepcopy(plain)
    recompute_layers(other)
    before, after = step(plain)[0], step(other)[0]
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_names_stay_and_layers_are_found() -> None:
    editor = tiny_editor("kl")
    names = list(editor.state_dict())
    recompute_layers(editor)
    layers = editor.guide.mllm.language_model.model.layers  # type: ignore[union-attr]
    assert {type(layer) for layer in layers} == {TrainingLlamaLayer}  # type: ignore[union-attr]
    assert list(editor.state_dict()) == names


@pytest.mark.parametrize("recomputes", [False, True])
def test_compiled_layers_and_passes_with_a_cache_compute_the_same(recomputes: bool) -> None:
    plain = tiny_editor("kl")
    set_trainable(plain, ["*.embed_tokens.*", "guide.edit_head.*", "unet.*"])
    other = copy.deepcopy(plain)
    compile_layers(other, "eager")
    if recomputes:
        recompute_layers(other)
    for train_embeddings in ("all", "new_rows"):
        for editor in (plain, other):
            editor.guide.train_embeddings = train_embeddings  # type: ignore[assignment]
            editor.zero_grad()
        before, after = step(plain)[0], step(other)[0]
        assert [name for name in before if not torch.equal(before[name], after[name])] == []


ONE_GRAPH = """
import torch
from mgie_lit.models.training_layers import compile_layers
from mgie_lit.testing.tiny_models import tiny_editor

graphs = []
mllm = tiny_editor("kl").guide.mllm
compile_layers(mllm, lambda graph, _: graphs.append(graph) or graph.forward)
mllm(torch.randn(1, 9, mllm.hidden_dim).requires_grad_())
print(len(mllm.language_model.model.layers), "layers,", len(graphs), "graph")
"""


@pytest.mark.slow
def test_layers_share_one_graph() -> None:
    command = [sys.executable, "-c", ONE_GRAPH]  # without the checks of types that tests put into all functions
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert told == "2 layers, 1 graph\n"


def test_layers_are_plain_again() -> None:
    editor = tiny_editor("kl")
    kinds = [type(part) for part in editor.modules()]
    recompute_layers(editor)
    compile_layers(editor, "eager")
    plain_layers(editor)
    assert [type(part) for part in editor.modules()] == kinds
    recompute_layers(editor)
    assert all(layer.compiled is None for layer in editor.guide.mllm.language_model.model.layers)  # type: ignore[union-attr]
