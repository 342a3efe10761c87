from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from mgie_lit.editor import Editor, Objective
from mgie_lit.models.freezing import set_trainable
from mgie_lit.models.lowering import lower_frozen
from mgie_lit.testing.random_data import random_batch, random_draws
from mgie_lit.testing.tiny_models import tiny_editor

PAPER = ["*.embed_tokens.*", "*.lm_head.*", "guide.edit_head.*", "unet.*"]


def step(editor: Editor) -> dict[str, Tensor]:
    editor.zero_grad(set_to_none=True)
    batch = random_batch(editor)
    with torch.autocast("cpu", torch.bfloat16):
        loss = editor.losses(batch, random_draws(editor, batch), Objective()).loss
    loss.backward()  # type: ignore[no-untyped-call]
    grads = {name: p.grad.clone() for name, p in editor.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **grads}


def test_a_mixed_step_is_equal_to_the_last_bit() -> None:
    editor = tiny_editor("kl")
    trained = set_trainable(editor, PAPER)
    frozen = [name for name, _ in editor.named_parameters() if name not in trained]
    before = step(editor)
    lowered = lower_frozen(editor, frozen)
    after = step(editor)
    assert len(lowered) > 0.5 * len(frozen)
    assert before.keys() == after.keys()
    assert [name for name in before if not torch.equal(before[name], after[name])] == []


def test_what_is_converted() -> None:
    module = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3), nn.Embedding(4, 3), nn.Linear(3, 4, bias=False))
    module[3].weight = module[2].weight  # a table that is also a matrix
    module.requires_grad_(False)
    names = list(module.state_dict())
    assert lower_frozen(module, names) == ["0.weight", "0.bias"]
    assert [name for name, value in module.state_dict().items() if value.dtype == torch.bfloat16] == [
        "0.weight",
        "0.bias",
    ]
    assert list(module.state_dict()) == names
    assert lower_frozen(nn.Linear(2, 2).requires_grad_(False), ["weight"]) == ["weight"]
    assert lower_frozen(nn.Linear(2, 2).half().requires_grad_(False), ["weight"]) == []


def test_what_trains_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected frozen parameters, got bias, which trains"):
        lower_frozen(nn.Linear(2, 2), ["bias"])
