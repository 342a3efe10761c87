"""Names of the released training's model (``model.named_parameters()`` of ml-mgie), for a whole ``Editor``."""

from __future__ import annotations

from mgie_lit.checkpoints.names import apple, llava
from mgie_lit.checkpoints.names.rules import replace_prefix

_OUR_MLLM = "guide.mllm."
_FROM_OURS = (("guide.edit_head.", "edit_head."), ("autoencoder.", "vae."))
_TO_OURS = (("edit_head.", "guide.edit_head."), ("vae.", "autoencoder."))
_SAME = "unet."
_MLLM_PREFIXES = ("model.", "lm_head.")


def reference_name(our_name: str) -> str:
    """What ml-mgie calls a parameter of our ``Editor``.

    Args:
        our_name: As in ``Editor.named_parameters()``.

    Returns:
        As in ml-mgie's state dict; stored embeddings, which it has in a file only, are called ``emb`` as there.

    Raises:
        ValueError: No part of an editor has such a parameter.

    >>> reference_name("guide.mllm.vision_tower.pre_layrnorm.bias")
    'model.vision_tower.vision_model.pre_layrnorm.bias'
    """
    if our_name == apple.OUR_STORED_EMBEDDINGS:
        return apple.STORED_EMBEDDINGS
    if our_name.startswith(_OUR_MLLM):
        return llava.from_ours(our_name.removeprefix(_OUR_MLLM))
    if our_name.startswith((_SAME, *(ours for ours, _ in _FROM_OURS))):
        return replace_prefix(our_name, _FROM_OURS)
    raise ValueError(f"our_name: expected a parameter of an Editor, got {our_name!r}")


def name_of_reference(reference_name: str) -> str:
    """What our ``Editor`` calls a parameter of ml-mgie; the inverse of `reference_name`.

    Args:
        reference_name: As in ml-mgie's state dict.

    Returns:
        As in ``Editor.named_parameters()``.

    Raises:
        ValueError: ml-mgie has no such parameter.

    >>> name_of_reference("vae.encoder.conv_in.bias")
    'autoencoder.encoder.conv_in.bias'
    """
    if reference_name == apple.STORED_EMBEDDINGS:
        return apple.OUR_STORED_EMBEDDINGS
    if reference_name.startswith(_MLLM_PREFIXES):
        ours = llava.to_ours(reference_name)
        if ours is not None:
            return _OUR_MLLM + ours
    if reference_name.startswith((_SAME, *(theirs for theirs, _ in _TO_OURS))):
        return replace_prefix(reference_name, _TO_OURS)
    raise ValueError(f"reference_name: expected a parameter of ml-mgie, got {reference_name!r}")
