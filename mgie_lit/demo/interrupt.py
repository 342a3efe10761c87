"""Stopping a network in the middle: between two of its layers, wherever it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from mgie_lit.editor import Editor


@contextmanager
def checked_layers(editor: Editor, check: Callable[[], None]) -> Iterator[None]:
    """Call ``check`` before every layer of every part; what it raises ends the forward pass.

    Layers are the members of ``nn.ModuleList``s: those of the language model while it writes, of the vision tower, the
    UNet and the autoencoder. So an edit ends within milliseconds and not only between two denoising steps.

    Args:
        editor: Whose parts are watched inside the context.
        check: Takes no arguments.

    Yields:
        Nothing.
    """
    layers = [layer for module in editor.modules() if isinstance(module, nn.ModuleList) for layer in module]
    handles = [layer.register_forward_pre_hook(lambda *_: check()) for layer in layers]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
