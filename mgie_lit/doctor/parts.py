"""The parts of a system that a person asks about, and how many parameters each has and trains."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mgie_lit.editor import Editor

# Label and module of each part; a parameter belongs to the first that holds it.
PARTS = (
    ("word embeddings", "guide.mllm.language_model.model.embed_tokens"),
    ("LM head", "guide.mllm.language_model.lm_head"),
    ("language model", "guide.mllm.language_model.model"),
    ("vision tower", "guide.mllm.vision_tower"),
    ("projector", "guide.mllm.projector"),
    ("edit head", "guide.edit_head"),
    ("text encoder", "guide.text_encoder"),
    ("guide, the rest", "guide"),
    ("UNet", "unet"),
    ("autoencoder", "autoencoder"),
)
ELSEWHERE = "losses"  # what is computed in no part: noising, cross entropy, mean squared error


@dataclass(frozen=True, slots=True)
class PartCount:
    """Parameters of one part."""

    part: str
    total: int
    trainable: int


def count_parameters(editor: Editor) -> list[PartCount]:
    """Parameters by part, those that train apart; every parameter counts once.

    Args:
        editor: Also on the meta device; what trains is what ``requires_grad`` says.

    Returns:
        Parts that have any, in the order of ``PARTS``.
    """
    total = dict.fromkeys((label for label, _ in PARTS), 0)
    trainable = dict(total)
    for name, parameter in editor.named_parameters():
        label = next(label for label, path in PARTS if name.startswith(f"{path}."))
        total[label] += parameter.numel()
        trainable[label] += parameter.numel() * parameter.requires_grad
    return [PartCount(label, total[label], trainable[label]) for label in total if total[label]]


def part_modules(editor: Editor) -> Iterator[tuple[str, nn.Module]]:
    """Every module of an editor with the label of its part; a part may lie inside another one, and be run in pieces."""
    for name, module in editor.named_modules():
        label = next((label for label, path in PARTS if f"{name}.".startswith(f"{path}.")), None)
        if label is not None:
            yield label, module
