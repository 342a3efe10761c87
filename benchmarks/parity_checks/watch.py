"""What goes in and out of the parts of an editor during a real pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from mgie_lit.editor import Editor
from mgie_lit.guides.mllm import MLLMGuide


@dataclass
class Seen:
    """Tensors in the order of the calls; detached, on the CPU."""

    vision: list[Tensor] = field(default_factory=list)  # (B, 1 + N, vision width), the layer that is projected
    image_features: list[Tensor] = field(default_factory=list)  # (B, N, D)
    embeddings: list[Tensor] = field(default_factory=list)  # (B, S, D), image features in their places
    hidden: list[Tensor] = field(default_factory=list)  # (B, S, D), after the final norm
    extended: list[Tensor] = field(default_factory=list)  # (B, S, D) each, the same piece by piece when editing
    slices: list[Tensor] = field(default_factory=list)  # (B, V, D), what the edit head reads
    visual_embeddings: list[Tensor] = field(default_factory=list)  # (V, D)
    conditions: list[Tensor] = field(default_factory=list)  # (B, Q, E)
    distributions: list[Any] = field(default_factory=list)  # of the autoencoder: source, then target
    unet_inputs: list[Tensor] = field(default_factory=list)  # (B, 2 C, h, w)
    unet_conditions: list[Tensor] = field(default_factory=list)  # (B, Q, E)
    unet_outputs: list[Tensor] = field(default_factory=list)  # (B, C, h, w)
    decoded: list[Tensor] = field(default_factory=list)  # (B, 3, H, W) in [-1, 1]

    @property
    def read(self) -> Tensor:
        """``(B, S, D)`` after the final norm of all that the language model read and wrote when editing."""
        return torch.cat(self.extended, dim=1)


@contextmanager
def watch(editor: Editor) -> Iterator[Seen]:
    """Record what passes through an editor with an MLLM.

    Args:
        editor: Behaves as ever.

    Yields:
        What was seen so far.
    """
    seen, guide = Seen(), editor.guide
    assert isinstance(guide, MLLMGuide)
    mllm, head = guide.mllm, guide.edit_head
    assert mllm.vision_tower is not None
    assert mllm.projector is not None

    def projector(_module: object, _args: object, output: Tensor) -> None:
        seen.image_features.append(output.detach())

    def language(_module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.embeddings.append(args[0].detach())
        seen.hidden.append(output.detach())

    def edit_head(_module: object, args: tuple[Tensor, ...], output: Tensor) -> None:
        seen.slices.append(args[0].detach())
        seen.visual_embeddings.append(args[1].detach())
        seen.conditions.append(output.detach())

    def unet(_module: object, args: tuple[Tensor, ...], output: tuple[Tensor]) -> None:
        seen.unet_inputs.append(args[0].detach())
        seen.unet_conditions.append(args[2].detach())
        seen.unet_outputs.append(output[0].detach())

    hooks = ((mllm.projector, projector), (mllm, language), (head, edit_head))
    with ExitStack() as stack:
        for module, hook in (*hooks, (editor.unet, unet)):
            stack.callback(module.register_forward_hook(hook).remove)
        stack.enter_context(listen(mllm, "_tower_states", lambda states: seen.vision.append(states.detach())))
        stack.enter_context(listen(mllm, "extend", lambda states: seen.extended.append(states.detach())))
        encode = lambda output: seen.distributions.append(output.latent_dist)  # noqa: E731
        stack.enter_context(listen(editor.autoencoder, "encode", encode))
        stack.enter_context(listen(editor, "decode", seen.decoded.append))
        yield seen


@contextmanager
def listen(owner: object, method: str, hear: Callable[[Any], object]) -> Iterator[None]:
    """Hand every result of an object's method to ``hear``, too."""
    original = getattr(owner, method)

    def call(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        result = original(*args, **kwargs)
        hear(result)
        return result

    with mock.patch.object(owner, method, call):
        yield
