from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRMSNorm

from mgie_lit.models.norms import FusedRMSNorm, MatrixInputRMSNorm, fuse_norms
from mgie_lit.testing.tiny_models import tiny_editor

CONFIG = LlamaConfig(hidden_size=8, intermediate_size=16, num_attention_heads=2, num_key_value_heads=2)


def norm() -> LlamaRMSNorm:
    part = LlamaRMSNorm(8, eps=1e-6)
    nn.init.normal_(part.weight)
    return part


def run(part: nn.Module, inputs: Tensor) -> list[Tensor]:
    inputs = inputs.clone().requires_grad_()
    output = part(inputs)
    return [output, *torch.autograd.grad(output.float().square().sum(), [inputs, *part.parameters()])]


@pytest.mark.parametrize("of_input", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("of_weight", [torch.float32, torch.bfloat16])
def test_equal_to_the_last_bit(of_input: torch.dtype, of_weight: torch.dtype) -> None:
    plain = norm().to(of_weight)
    fused = copy.deepcopy(plain)
    fuse_norms(fused)
    inputs = 3 * torch.randn(2, 5, 8).to(of_input)
    before, after = run(plain, inputs), run(fused, inputs)
    assert [one.dtype for one in before] == [one.dtype for one in after]
    assert all(torch.equal(*pair) for pair in zip(before, after, strict=True))


@pytest.mark.gpu
def test_a_gpu_rounds_otherwise() -> None:
    plain = norm().cuda()
    fused = copy.deepcopy(plain)
    fuse_norms(fused)
    inputs = 3 * torch.randn(2, 5, 8, device="cuda")
    for one, other in zip(run(plain, inputs), run(fused, inputs), strict=True):
        torch.testing.assert_close(other, one, rtol=1e-5, atol=1e-5)


def test_shapes_alone() -> None:
    fused = norm().to("meta")
    fused.__class__ = MatrixInputRMSNorm
    assert fused(torch.empty(2, 8, device="meta")).shape == (2, 8)


def test_matrices_get_what_autocast_would_give_them() -> None:
    layer: LlamaDecoderLayer = LlamaDecoderLayer(CONFIG, 0)  # type: ignore[no-untyped-call]
    fused = copy.deepcopy(layer)
    fuse_norms(fused)
    inputs = torch.randn(1, 3, 8)
    with torch.autocast("cpu", torch.bfloat16):
        assert layer.input_layernorm(inputs).dtype == torch.float32
        assert fused.input_layernorm(inputs).dtype == torch.bfloat16
        assert torch.equal(layer.mlp(layer.input_layernorm(inputs)), fused.mlp(fused.input_layernorm(inputs)))
    assert fused.input_layernorm(inputs).dtype == torch.float32


def test_the_last_norm_is_read_by_others_and_names_stay() -> None:
    editor = tiny_editor("kl")
    names = list(editor.state_dict())
    fuse_norms(editor)
    assert list(editor.state_dict()) == names
    language_model = editor.guide.mllm.language_model.model  # type: ignore[union-attr]
    assert type(language_model.norm) is FusedRMSNorm
    assert {type(part) for layer in language_model.layers for part in layer.children() if hasattr(part, "variance_epsilon")} == {MatrixInputRMSNorm}  # type: ignore[union-attr]  # fmt: skip  # noqa: E501
    with torch.autocast("cpu", torch.bfloat16):
        assert language_model.norm(torch.ones(1, language_model.config.hidden_size)).dtype == torch.float32  # type: ignore[union-attr, operator]
