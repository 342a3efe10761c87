"""Names of legacy LLaVA (``LlavaLlamaForCausalLM``), and of plain LLaMA, which are the same without the image.

``model.layers.*``, ``lm_head.weight``, ``model.mm_projector.*`` and, in some folders, CLIP's tower at
``model.vision_tower.vision_model.*`` or ``model.vision_tower.vision_tower.vision_model.*``.
"""

from __future__ import annotations

from mgie_lit.checkpoints.names.rules import Format, is_weight, replace_prefix

_TO_OURS = (
    ("model.vision_tower.vision_tower.vision_model.", "vision_tower."),
    ("model.vision_tower.vision_model.", "vision_tower."),
    ("model.mm_projector.", "projector."),
    ("model.", "language_model.model."),
    ("lm_head.", "language_model.lm_head."),
)
_FROM_OURS = (
    ("vision_tower.", "model.vision_tower.vision_model."),
    ("projector.", "model.mm_projector."),
    ("language_model.", ""),
)


def to_ours(name: str) -> str | None:
    """Legacy LLaVA's name -> name in our ``MLLM``.

    >>> to_ours("model.mm_projector.weight")
    'projector.weight'
    """
    return replace_prefix(name, _TO_OURS) if is_weight(name) else None


def from_ours(name: str) -> str:
    """Name in our ``MLLM`` -> legacy LLaVA's, with the tower inside.

    >>> from_ours("vision_tower.pre_layrnorm.bias")
    'model.vision_tower.vision_model.pre_layrnorm.bias'
    """
    return replace_prefix(name, _FROM_OURS)


LLAVA = Format("legacy LLaVA", to_ours, from_ours)
