"""Names of the two files that ml-mgie publishes: ``mllm.pt`` and ``unet.pt``.

``mllm.pt`` holds word embeddings and LM head under LLaVA's names, ``edit_head.*``, and in most copies ``emb``: the word
embeddings of ``[IMG0..7]`` that the demo uses. ``unet.pt`` holds diffusers' UNet without a prefix. Names here are those
of an ``Editor``, because the files cut across its parts.
"""

from __future__ import annotations

from mgie_lit.checkpoints.names import llava
from mgie_lit.checkpoints.names.rules import Format

MLLM_FILE, UNET_FILE = "mllm.pt", "unet.pt"
STORED_EMBEDDINGS = "emb"
WORD_TENSORS = ("model.embed_tokens.weight", "lm_head.weight")
_GUIDE, _MLLM, _HEAD, _UNET = "guide.", "guide.mllm.", "guide.edit_head.", "unet."
OUR_STORED_EMBEDDINGS = f"{_HEAD}stored_embeddings"


def mllm_to_ours(name: str) -> str | None:
    """Name in ``mllm.pt`` -> name in our ``Editor``.

    >>> mllm_to_ours("lm_head.weight"), mllm_to_ours("emb")
    ('guide.mllm.language_model.lm_head.weight', 'guide.edit_head.stored_embeddings')
    """
    if name == STORED_EMBEDDINGS:
        return OUR_STORED_EMBEDDINGS
    if name in WORD_TENSORS:
        return f"{_MLLM}{llava.to_ours(name)}"
    return f"{_GUIDE}{name}" if name.startswith("edit_head.") else name


def mllm_from_ours(name: str) -> str:
    """Name in our ``Editor`` -> name in ``mllm.pt``."""
    if name == OUR_STORED_EMBEDDINGS:
        return STORED_EMBEDDINGS
    if name.startswith(_MLLM):
        return llava.from_ours(name.removeprefix(_MLLM))
    return name.removeprefix(_GUIDE)


def unet_to_ours(name: str) -> str | None:
    """Name in ``unet.pt`` -> name in our ``Editor``."""
    return _UNET + name


def unet_from_ours(name: str) -> str:
    """Name in our ``Editor`` -> name in ``unet.pt``."""
    return name.removeprefix(_UNET)


APPLE_MLLM = Format(MLLM_FILE, mllm_to_ours, mllm_from_ours)
APPLE_UNET = Format(UNET_FILE, unet_to_ours, unet_from_ours)
