"""Names of OpenAI's CLIP folders, of which LLaVA takes the image tower alone."""

from __future__ import annotations

from mgie_lit.checkpoints.names.rules import Format, is_weight

_TOWER = "vision_model."
_OTHERS = ("text_model.", "text_projection.", "visual_projection.", "logit_scale")


def to_ours(name: str) -> str | None:
    """CLIP's name -> name in our ``MLLM``; None for the text side and the projections.

    >>> to_ours("vision_model.pre_layrnorm.bias"), to_ours("logit_scale")
    ('vision_tower.pre_layrnorm.bias', None)
    """
    if name.startswith(_OTHERS) or not is_weight(name):
        return None
    return "vision_tower." + name.removeprefix(_TOWER)


def from_ours(name: str) -> str:
    """Name in our ``MLLM`` -> CLIP's."""
    return _TOWER + name.removeprefix("vision_tower.")


CLIP = Format("CLIP", to_ours, from_ours)
