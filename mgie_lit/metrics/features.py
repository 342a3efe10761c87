"""Metrics that compare image features of the edited image with those of the target."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mgie_lit.functional.similarity import cosine_similarity
from mgie_lit.metrics.base import SampleMetric

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

    from mgie_lit.metrics.encoders import ImageEncoder

TARGET_CACHE_SIZE = 20_000  # feature vectors, at 768 floats each about 60 MB


class FeatureSimilarity(SampleMetric):
    """Cosine of image features of the edited image and the target.

    Features of targets are kept, so that several seeds, validation rounds and the copy baseline encode a target once.
    They are found again by the image's content: no id can bring back the features of another picture.

    Args:
        encoder: Gives the features; anything with ``encode`` and ``identity``.
        cache_size: Number of target features kept; the oldest go first.
    """

    needs: ClassVar[tuple[str, ...]] = ("pred_images", "target_images")
    higher_is_better = True

    def __init__(self, encoder: ImageEncoder, *, cache_size: int = TARGET_CACHE_SIZE) -> None:
        super().__init__()
        self.encoder = encoder
        self.cache_size = cache_size
        self._target_features: dict[bytes, Tensor] = {}

    def score(self, pred_images: Sequence[Image.Image], target_images: Sequence[Image.Image]) -> Tensor:
        """Two lists of ``B`` RGB images of any size -> ``(B,)`` in [-1, 1]."""
        return cosine_similarity(self.encoder.encode(pred_images), self._encode_targets(target_images))

    def describe(self) -> dict[str, object]:
        """Adds the encoder's model, preprocessing and weights; loads it."""
        return super().describe() | {"similarity": "cosine", "encoder": self.encoder.identity()}

    def _encode_targets(self, images: Sequence[Image.Image]) -> Tensor:
        keys = [_content_key(image) for image in images]
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in self._target_features}
        known = {key: self._target_features[key] for key in keys if key in self._target_features}
        if missing:
            fresh = dict(zip(missing, self.encoder.encode(list(missing.values())), strict=True))
            known |= fresh
            self._target_features |= fresh
            while len(self._target_features) > self.cache_size:
                self._target_features.pop(next(iter(self._target_features)))
        return torch.stack([known[key] for key in keys])


class ClipI(FeatureSimilarity):
    """CLIP image similarity: the paper's CVS (there times 100)."""

    name: ClassVar[str] = "clip_i"


class Dino(FeatureSimilarity):
    """DINO image similarity: the paper's DINO (there times 100)."""

    name: ClassVar[str] = "dino"


def _content_key(image: Image.Image) -> bytes:
    header = f"{image.mode} {image.size}".encode()
    return hashlib.blake2b(header + image.tobytes(), digest_size=16).digest()
