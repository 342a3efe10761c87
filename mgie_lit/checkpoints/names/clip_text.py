"""Names of CLIP's text encoder as Stable Diffusion's folders hold it."""

from __future__ import annotations

from mgie_lit.checkpoints.names.rules import Format, is_weight

_ENCODER = "text_model."


def to_ours(name: str) -> str | None:
    """Name in a folder -> name in ``CLIPTextModel``; None for the projection and what the config determines.

    >>> to_ours("text_model.final_layer_norm.bias"), to_ours("text_model.embeddings.position_ids")
    ('final_layer_norm.bias', None)
    """
    if name.startswith("text_projection.") or not is_weight(name):
        return None
    return name.removeprefix(_ENCODER)


def from_ours(name: str) -> str:
    """Name in ``CLIPTextModel`` -> Stable Diffusion's."""
    return _ENCODER + name


CLIP_TEXT = Format("CLIP text encoder", to_ours, from_ours)
