"""What cached numbers depend on beside the images: everything that is the same for a whole cache."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgie_lit.data.buckets import BucketTransform
from mgie_lit.data.resampling import PILLOW
from mgie_lit.data.transforms import PairTransform, TwoStepTransform
from mgie_lit.errors import ConfigError
from mgie_lit.functional.hashing import tensors_hash
from mgie_lit.models.autoencoder import PatchAutoencoder
from mgie_lit.models.freezing import is_frozen
from mgie_lit.models.mllm import MLLM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from mgie_lit.data.collate import EditCollator
    from mgie_lit.editor import Editor

FORMAT = 1  # of the files; raise it when old ones can not be read any more
LATENTS, VISION = "latents", "vision"
KINDS = (LATENTS, VISION)
# Lightning's names -> our fact; the numbers of a part depend on the type that it computes in.
_PRECISIONS = {"32": "32-true", "16": "16-mixed", "bf16": "bf16-mixed", "64": "64-true"}
_NOISE = {  # entries of a config that change no number
    *("architectures", "dtype", "torch_dtype", "transformers_version", "id2label", "label2id", "problem_type"),
    *("return_dict", "output_attentions", "output_hidden_states", "chunk_size_feed_forward", "is_encoder_decoder"),
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """How one kind of numbers is made."""

    kind: str  # LATENTS or VISION
    facts: Mapping[str, str]  # transform, model, weights, dtype, ...: plain text, compared one by one

    @property
    def digest(self) -> str:
        """16 hexadecimal digits; equal for equal facts only."""
        content = json.dumps([FORMAT, self.kind, sorted(self.facts.items())])
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def differences(self, cached: Mapping[str, str]) -> list[str]:
        """What another recipe's facts have that ours have not, a line each: ``weights: cached <x>, now <y>``."""
        names = dict.fromkeys([*self.facts, *cached])
        return [
            f"{name}: cached {_brief(cached.get(name))}, now {_brief(self.facts.get(name))}"
            for name in names
            if cached.get(name) != self.facts.get(name)
        ]


def latents_recipe(editor: Editor, collator: EditCollator, precision: str | int) -> Recipe | str:
    """How the autoencoder's moments are made, or why they are not worth caching.

    Args:
        editor: Of the training.
        collator: Of the training; its geometry counts.
        precision: ``trainer.precision``.

    Returns:
        A recipe, or the reason against it.

    Raises:
        ConfigError: The geometry is drawn anew for every example.
    """
    autoencoder = editor.autoencoder
    if isinstance(autoencoder, PatchAutoencoder):
        return "PatchAutoencoder has no weights and takes less time than reading its latents would"
    return Recipe(LATENTS, _facts(autoencoder, dict(autoencoder.config), collator, precision))


def vision_recipe(editor: Editor, collator: EditCollator, precision: str | int) -> Recipe | str:
    """How the states are made that the projector takes, or why they can not be cached.

    Args:
        editor: Of the training, with its trainable parameters chosen.
        collator: Of the training; its geometry and image processor count.
        precision: ``trainer.precision``.

    Returns:
        A recipe, or the reason against it.

    Raises:
        ConfigError: The geometry is drawn anew for every example.
    """
    mllm = getattr(editor.guide, "mllm", None)
    if not isinstance(mllm, MLLM) or mllm.vision_tower is None or collator.image_processor is None:
        return "the guide has no vision tower"
    if not is_frozen(mllm.vision_tower):
        return "the vision tower trains, so its features change in every step; train with trainable=paper to freeze it"
    tower = mllm.vision_tower
    facts = _facts(tower, tower.config.to_dict() | {"vision_layer": mllm.vision_layer}, collator, precision)
    return Recipe(VISION, facts | {"image processor": _stable(collator.image_processor.to_dict())})


def recipes_of(editor: Editor, collator: EditCollator, precision: str | int) -> dict[str, Recipe | str]:
    """For each of ``KINDS`` how its numbers are made, or why there are none.

    Args:
        editor: Of the training, with its trainable parameters chosen.
        collator: Of the training.
        precision: ``trainer.precision``.

    Returns:
        Recipe or reason by kind.

    Raises:
        ConfigError: The geometry is drawn anew for every example.
    """
    makers = {LATENTS: latents_recipe, VISION: vision_recipe}
    return {kind: make(editor, collator, precision) for kind, make in makers.items()}


def canonical_precision(precision: str | int) -> str:
    """Lightning's full name of a precision, e.g. ``32-true`` for 32."""
    return _PRECISIONS.get(str(precision), str(precision))


def _facts(part: nn.Module, config: dict[str, Any], collator: EditCollator, precision: str | int) -> dict[str, str]:
    if not isinstance(collator.transform, PairTransform | TwoStepTransform | BucketTransform):
        raise ConfigError(
            f"data.cache: expected a fixed geometry, got {type(collator.transform).__name__}, which may draw another "
            "cut every time; train without the cache or without random crops"
        )
    resampler = collator.transform.resampler
    return ({} if resampler == PILLOW else {"resampler": resampler}) | {
        "transform": repr(collator.transform),
        "model": f"{type(part).__name__} {_stable(config)}",
        "weights": weights_hash(part),
        "dtype": f"weights {next(part.parameters()).dtype}, precision {canonical_precision(precision)}",
    }


def weights_hash(part: nn.Module) -> str:
    """SHA-256 over names, shapes, types and bytes of all tensors of a module."""
    return tensors_hash(part.state_dict())


def _stable(config: Mapping[str, Any]) -> str:
    """A config as text without what depends on library versions and folders."""
    kept = {key: value for key, value in config.items() if key not in _NOISE and not key.startswith("_")}
    return json.dumps(kept, sort_keys=True, default=str)


def _brief(value: str | None) -> str:
    return "none" if value is None else value if len(value) <= 80 else f"{value[:77]}..."
