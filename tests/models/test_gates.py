from __future__ import annotations

import copy

import pytest
import torch
from diffusers.models.activations import GEGLU
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaMLP

from mgie_lit.models.gates import SparingGEGLU, SparingLlamaMLP, spare_gates


def llama() -> nn.Module:
    return LlamaMLP(LlamaConfig(hidden_size=6, intermediate_size=40, num_attention_heads=2))


def geglu() -> nn.Module:
    return GEGLU(6, 40)


def run(part: nn.Module, inputs: Tensor) -> tuple[list[Tensor], int]:
    """Output and gradients, and the numbers kept for the backward besides the weights."""
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in part.parameters()}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes() // tensor.itemsize
        return tensor

    inputs = inputs.clone().requires_grad_()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = part(inputs)
    leaves = [inputs, *(parameter for parameter in part.parameters() if parameter.requires_grad)]
    return [output, *torch.autograd.grad(output.square().sum(), leaves)], sum(kept.values())


@pytest.mark.parametrize("make", [llama, geglu])
@pytest.mark.parametrize("is_frozen", [False, True])
@pytest.mark.parametrize("is_mixed", [False, True])
def test_equal_to_the_last_bit_and_less_is_kept(make: object, is_frozen: bool, is_mixed: bool) -> None:
    plain = make().requires_grad_(not is_frozen)  # type: ignore[operator]
    sparing = copy.deepcopy(plain)
    spare_gates(sparing)
    inputs = torch.randn(2, 5, 6)
    with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
        before, kept_before = run(plain, inputs)
        after, kept_after = run(sparing, inputs)
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert kept_before - kept_after >= 2 * 5 * 40


def test_names_stay_and_copies_work() -> None:
    parts = nn.ModuleList([llama(), geglu(), nn.Linear(2, 2)])
    names = list(parts.state_dict())
    spare_gates(parts)
    assert [type(part) for part in copy.deepcopy(parts)] == [SparingLlamaMLP, SparingGEGLU, nn.Linear]
    assert list(parts.state_dict()) == names


def test_nothing_is_computed_twice_without_gradient() -> None:
    part = llama()
    spare_gates(part)
    calls: list[int] = []
    part.act_fn.register_forward_hook(lambda *_: calls.append(1))  # type: ignore[union-attr, operator]
    with torch.no_grad():
        part(torch.randn(3, 6))
    assert len(calls) == 1
