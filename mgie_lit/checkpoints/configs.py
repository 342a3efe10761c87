"""Published configs -> keyword arguments of our ``MLLM``."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from transformers import CLIPVisionConfig, LlamaConfig

from mgie_lit.checkpoints.lazy import LazyTensors
from mgie_lit.errors import CheckpointError

LANGUAGE_KEYS = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "attention_bias",
    "mlp_bias",
    "tie_word_embeddings",
    "pad_token_id",
    "bos_token_id",
    "eos_token_id",
)
VISION_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "image_size",
    "patch_size",
    "projection_dim",
    "hidden_act",
    "layer_norm_eps",
)
VISION_LAYER = -2  # LLaVA's, where a config does not say
PROJECTORS = {"linear": 1, "mlp2x_gelu": 2}  # legacy LLaVA's names -> layers
_LLAMA_TYPES = ("llama", "llava", "llava_llama")
_CLIP_HEAD_DIM = 64  # of every CLIP that OpenAI published


def language_config(fields: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Arguments of ``LlamaConfig`` from a LLaMA, Vicuna or legacy LLaVA config, or from a ``text_config``.

    Args:
        fields: The config; what it leaves out has transformers' default.
        source: Where it comes from, for the message.

    Returns:
        The arguments that shape the model, the ids of its special tokens, and the rotary embedding's.

    Raises:
        CheckpointError: The language model is not a LLaMA, or its sizes contradict each other.
    """
    kind = fields.get("model_type", "llama")
    if kind not in _LLAMA_TYPES:
        raise CheckpointError(f"{source}: expected a LLaMA language model, got model_type {kind!r}")
    known = {
        key: fields[key] for key in (*LANGUAGE_KEYS, "rope_theta", "rope_scaling", "rope_parameters") if key in fields
    }
    known.setdefault("max_position_embeddings", fields.get("max_sequence_length", 2048))  # LLaMA's first conversions
    if (known.get("pad_token_id") or 0) < 0:
        known["pad_token_id"] = None  # old configs write -1 for none
    return _complete(LlamaConfig, known, (*LANGUAGE_KEYS, "rope_parameters"), source)


def vision_config(fields: Mapping[str, Any], source: object) -> dict[str, Any]:
    """Arguments of ``CLIPVisionConfig`` from a CLIP folder's config, or from a ``vision_config``.

    Args:
        fields: The config of the tower, or of a whole CLIP with one inside.
        source: Where it comes from, for the message.

    Returns:
        The arguments that shape the tower.

    Raises:
        CheckpointError: The tower is not CLIP's, or its sizes contradict each other.
    """
    inner = fields.get("vision_config", fields)
    if inner.get("model_type", "clip_vision_model") not in ("clip_vision_model", "clip"):
        raise CheckpointError(f"{source}: expected CLIP's vision tower, got model_type {inner['model_type']!r}")
    return _complete(CLIPVisionConfig, {key: inner[key] for key in VISION_KEYS if key in inner}, VISION_KEYS, source)


def vision_config_of(tensors: LazyTensors) -> dict[str, Any]:
    """Arguments of ``CLIPVisionConfig`` from the shapes of a tower without a config.

    Shapes do not tell the number of heads; every published CLIP has heads of width 64.

    Args:
        tensors: Of an ``MLLM``, with ``vision_tower.*``.

    Returns:
        The arguments that shape the tower.

    Raises:
        CheckpointError: The tower is not whole, or its width is no multiple of 64.
    """
    try:
        width, _, patch_size, _ = tensors["vision_tower.embeddings.patch_embedding.weight"].shape
        positions = tensors["vision_tower.embeddings.position_embedding.weight"].shape[0]
        feedforward = tensors["vision_tower.encoder.layers.0.mlp.fc1.weight"].shape[0]
    except KeyError as error:
        raise CheckpointError(f"vision tower: expected all its weights, found no {error.args[0]}") from error
    if width % _CLIP_HEAD_DIM:
        raise CheckpointError(
            f"vision tower: expected a config, or a width that is a multiple of {_CLIP_HEAD_DIM} (the published "
            f"heads), got {width}; name the tower's folder with --vision"
        )
    layers = [name.split(".")[3] for name in tensors if name.startswith("vision_tower.encoder.layers.")]
    last_layer = max(int(number) for number in layers if number.isdecimal())  # no count, so that a lost one is reported
    sizes = {
        "hidden_size": width,
        "intermediate_size": feedforward,
        "num_hidden_layers": last_layer + 1,
        "num_attention_heads": width // _CLIP_HEAD_DIM,
        "image_size": math.isqrt(positions - 1) * patch_size,
        "patch_size": patch_size,
    }
    return vision_config(sizes, "vision tower")


def legacy_settings(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    """``vision_layer`` and ``projector_layers`` of a legacy LLaVA config.

    Args:
        config: With ``mm_*`` keys.
        source: Where it comes from, for the message.

    Returns:
        Arguments of ``MLLM``.

    Raises:
        CheckpointError: The projector is of another kind, or the class position is projected, too.
    """
    projector = config.get("mm_projector_type", "linear")
    if projector not in PROJECTORS:
        raise CheckpointError(
            f"{source}: mm_projector_type: expected one of {', '.join(PROJECTORS)}, got {projector!r}"
        )
    _require_patches_only(config.get("mm_vision_select_feature", "patch"), "patch", source)
    return {
        "vision_layer": _single_layer(config.get("mm_vision_select_layer", VISION_LAYER), source),
        "projector_layers": PROJECTORS[projector],
    }


def hf_settings(config: Mapping[str, Any], source: object) -> dict[str, Any]:
    """``vision_layer`` and ``projector_layers`` of a Hugging Face LLaVA config.

    Args:
        config: With ``vision_feature_layer`` and its like.
        source: Where it comes from, for the message.

    Returns:
        Arguments of ``MLLM``.

    Raises:
        CheckpointError: The projector has another activation or no bias, or the class position is projected, too.
    """
    activation, has_bias = config.get("projector_hidden_act", "gelu"), config.get("multimodal_projector_bias", True)
    if activation != "gelu" or not has_bias:
        raise CheckpointError(
            f"{source}: expected a projector with GELU and bias, got projector_hidden_act {activation!r}, "
            f"multimodal_projector_bias {has_bias}"
        )
    _require_patches_only(config.get("vision_feature_select_strategy", "default"), "default", source)
    return {
        "vision_layer": _single_layer(config.get("vision_feature_layer", VISION_LAYER), source),
        "projector_layers": PROJECTORS["mlp2x_gelu"],
    }


def _complete(
    make: Callable[..., Any], known: Mapping[str, Any], keys: tuple[str, ...], source: object
) -> dict[str, Any]:
    """What is known, and the library's defaults for the rest."""
    try:
        config = make(**known)
    except (TypeError, ValueError, StrictDataclassError) as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(
            f"{source}: expected a config that transformers takes, got one it refuses ({reason})"
        ) from error
    return {key: getattr(config, key) for key in keys}


def _require_patches_only(value: object, expected: str, source: object) -> None:
    if value != expected:
        raise CheckpointError(
            f"{source}: expected image features without the class position ({expected}), got {value!r}"
        )


def _single_layer(value: object, source: object) -> int:
    if not isinstance(value, int):
        raise CheckpointError(f"{source}: expected the features of one layer of the vision tower, got {value!r}")
    return value
