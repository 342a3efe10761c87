"""Names of Hugging Face's LLaVA (``LlavaForConditionalGeneration``), in both ways they lie on disk.

Folders of transformers 4 (and what transformers 5 still writes) hold ``language_model.model.*``; transformers 5's own
modules hold ``model.language_model.*`` and ``lm_head.*``. The tower's names come with and without ``vision_model.``.
"""

from __future__ import annotations

from mgie_lit.checkpoints.names.rules import Format, is_weight, replace_prefix

_TO_OURS = (
    ("vision_tower.vision_model.", "vision_tower."),
    ("multi_modal_projector.linear_1.", "projector.0."),
    ("multi_modal_projector.linear_2.", "projector.2."),
    ("lm_head.", "language_model.lm_head."),
)
_FROM_OURS = (
    ("projector.0.", "multi_modal_projector.linear_1."),
    ("projector.2.", "multi_modal_projector.linear_2."),
    ("vision_tower.", "vision_tower.vision_model."),
)
_NEW_LANGUAGE = "model.language_model."


def to_ours(name: str) -> str | None:
    """Hugging Face's name, of either generation -> name in our ``MLLM``.

    >>> to_ours("multi_modal_projector.linear_2.bias"), to_ours("model.language_model.norm.weight")
    ('projector.2.bias', 'language_model.model.norm.weight')
    """
    if not is_weight(name):
        return None
    if name.startswith(_NEW_LANGUAGE):
        return "language_model.model." + name.removeprefix(_NEW_LANGUAGE)
    return replace_prefix(name.removeprefix("model."), _TO_OURS)


def from_ours(name: str) -> str:
    """Name in our ``MLLM`` -> Hugging Face's as published folders hold it.

    >>> from_ours("projector.0.weight")
    'multi_modal_projector.linear_1.weight'
    """
    return replace_prefix(name, _FROM_OURS)


HF_LLAVA = Format("Hugging Face LLaVA", to_ours, from_ours)
