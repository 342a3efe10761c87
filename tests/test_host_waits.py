"""A training step does not wait for its device: on tensors without numbers nothing can ask for one."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgie_lit.editor import Editor, Objective
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.random_data import random_batch, random_draws
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.types import EditBatch, GuideLosses

META = torch.device("meta")
PAPER = ["*.embed_tokens.*", "*.lm_head.*", "guide.edit_head.*", "unet.*"]


class HostTensors(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations with a tensor of the host among their arguments: on a GPU, copies that the host waits for."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seen: list[str] = []

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        result = func(*args, **(kwargs or {}))
        made = [leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor)]
        if {tensor.device for tensor in (*given, *made)} - {META}:
            self.seen.append(str(func))
        return result


def step(editor: Editor) -> list[str]:
    """What of a step touches the host, once all constants have been copied."""
    batch = random_batch(editor)
    draws = random_draws(editor, batch).to(META)
    editor.to(META)
    batch = batch.to(META)
    editor.losses(batch, draws, Objective())
    with HostTensors() as watch:
        editor.losses(batch, draws, Objective()).loss.backward()  # type: ignore[no-untyped-call]
    return watch.seen


@pytest.fixture
def editor(monkeypatch: pytest.MonkeyPatch) -> Editor:
    monkeypatch.setattr(torch, "is_autocast_enabled", lambda device: False)  # it knows no device without numbers
    monkeypatch.setattr(torch, "autocast", lambda device, enabled: nullcontext())
    editor = tiny_editor("kl")
    set_trainable(editor, PAPER)
    return editor


@pytest.mark.parametrize("train_embeddings", ["all", "new_rows"])
def test_no_step_waits(editor: Editor, train_embeddings: str) -> None:
    editor.guide.train_embeddings = train_embeddings  # type: ignore[assignment]
    assert step(editor) == []


def test_a_copy_in_the_step_is_seen(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Editor, "_alphas_cumprod", lambda self, device: self.scheduler.alphas_cumprod.to(device))
    assert step(editor) == ["aten._to_copy.default"]


def test_a_number_that_the_host_asks_for_is_seen(editor: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    plain: Any = editor.guide.losses

    def asks(batch: EditBatch) -> GuideLosses:
        given: GuideLosses = plain(replace(batch, labels=batch.labels + batch.labels.max().item()))
        return given

    monkeypatch.setattr(editor.guide, "losses", asks)
    with pytest.raises(RuntimeError, match=r"item|meta"):
        step(editor)


def test_positions_that_have_to_be_looked_for_are_seen(editor: Editor) -> None:
    batch = random_batch(editor).to(META)
    with pytest.raises((RuntimeError, NotImplementedError), match=r"nonzero|meta"):
        batch.labels[batch.labels > 0]
