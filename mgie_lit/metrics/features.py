"""Metrics that compare image features: edited image with target, or with words that describe the target."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from mgie_lit.functional.similarity import cosine_similarity
from mgie_lit.metrics.base import SampleMetric
from mgie_lit.metrics.feature_store import MEMORY_SIZE, FeatureStore, content_keys, identity_key

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PIL import Image

    from mgie_lit.metrics.encoders import ImageEncoder, ImageTextEncoder


class FeatureMetric(SampleMetric):
    """Shared by metrics on an encoder: features of what the data set gives are kept, those of edits are not.

    Several systems, seeds and validation rounds, and the copy baseline, then encode a source or target once.

    Args:
        encoder: Gives the features; anything with ``encode`` and ``identity``.
        cache: Folder where features of sources and targets are kept for other evaluations; None = in memory only.
        cache_size: Number of features kept in memory; the oldest go first.
    """

    higher_is_better = True

    def __init__(
        self, encoder: ImageEncoder, *, cache: str | Path | None = None, cache_size: int = MEMORY_SIZE
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.store = FeatureStore(cache, memory_size=cache_size)

    def describe(self) -> dict[str, object]:
        """Adds the encoder's model, preprocessing and weights; loads it."""
        return super().describe() | {"similarity": "cosine", "encoder": self.encoder.identity()}

    def encode_given(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of images of the data set, each encoded once: ``B`` images -> ``(B, D)``."""
        keys = content_keys(images)
        known = self.store.get(keys, self._encoder_key)
        missing = {key: image for key, image in zip(keys, images, strict=True) if key not in known}
        if missing:
            fresh = dict(zip(missing, self.encoder.encode(list(missing.values())), strict=True))
            self.store.put(fresh, self._encoder_key)
            known |= fresh
        return torch.stack([known[key] for key in keys])

    def encode_edited(self, images: Sequence[Image.Image], sources: Sequence[Image.Image]) -> Tensor:
        """Features of edited images; where all of them are the very sources (a copy), those of the data set."""
        if len(images) == len(sources) and all(one is other for one, other in zip(images, sources, strict=True)):
            return self.encode_given(images)
        return self.encoder.encode(images)

    @cached_property
    def _encoder_key(self) -> str:
        return identity_key(self.encoder.identity(), str(getattr(self.encoder, "device", "cpu")))


class FeatureSimilarity(FeatureMetric):
    """Cosine of image features of the edited image and the target."""

    needs: ClassVar[tuple[str, ...]] = ("pred_images", "target_images", "source_images")

    def score(
        self,
        pred_images: Sequence[Image.Image],
        target_images: Sequence[Image.Image],
        source_images: Sequence[Image.Image] = (),
    ) -> Tensor:
        """Lists of ``B`` RGB images of any size -> ``(B,)`` in [-1, 1]; sources only tell what is a copy."""
        target = self.encode_given(target_images)  # first: the encoder remembers the list that it saw last
        return cosine_similarity(self.encode_edited(pred_images, source_images), target)


class ClipI(FeatureSimilarity):
    """CLIP image similarity: the paper's CVS (there times 100)."""

    name: ClassVar[str] = "clip_i"


class Dino(FeatureSimilarity):
    """DINO image similarity: the paper's DINO (there times 100)."""

    name: ClassVar[str] = "dino"


class CaptionMetric(FeatureMetric):
    """Shared by metrics that read captions; does not apply to samples without one.

    Args:
        encoder: Of images and texts.
        truncate: Cut captions that are longer than the encoder reads; otherwise they are an error.
        cache: As in :class:`FeatureMetric`.
        cache_size: As in :class:`FeatureMetric`.
    """

    encoder: ImageTextEncoder

    def __init__(
        self,
        encoder: ImageTextEncoder,
        *,
        truncate: bool = True,
        cache: str | Path | None = None,
        cache_size: int = MEMORY_SIZE,
    ) -> None:
        super().__init__(encoder, cache=cache, cache_size=cache_size)
        self.truncate = truncate
        self._texts: dict[str, Tensor] = {}

    def describe(self) -> dict[str, object]:
        """Adds the text encoder and what happens to long captions."""
        return super().describe() | {
            "text_encoder": self.encoder.text_identity(),
            "long_captions": "cut" if self.truncate else "an error",
        }

    def encode_captions(self, texts: Sequence[str]) -> Tensor:
        """Features of captions, each encoded once: ``B`` texts -> ``(B, D)``."""
        missing = [text for text in dict.fromkeys(texts) if text not in self._texts]
        if missing:
            encoded = self.encoder.encode_texts(missing, truncate=self.truncate)
            self._texts |= dict(zip(missing, encoded, strict=True))
        found = torch.stack([self._texts[text] for text in texts])
        while len(self._texts) > self.store.memory_size:
            self._texts.pop(next(iter(self._texts)))
        return found


class ClipT(CaptionMetric):
    """CLIP similarity of the edited image and the target's caption: the paper's CTS (there times 100)."""

    name: ClassVar[str] = "clip_t"
    needs: ClassVar[tuple[str, ...]] = ("pred_images", "captions", "source_images")

    def score(
        self,
        pred_images: Sequence[Image.Image],
        captions: Sequence[str | None],
        source_images: Sequence[Image.Image] = (),
    ) -> Tensor:
        """``B`` images and captions -> ``(B,)`` in [-1, 1]; NaN without a caption."""
        given = _present(captions)
        scores = torch.full((len(pred_images),), torch.nan)
        if given:  # all images are encoded, so that metrics of one encoder ask for the same list
            images = self.encode_edited(pred_images, source_images)[given]
            scores[given] = cosine_similarity(images, self.encode_captions([captions[index] or "" for index in given]))
        return scores


class ClipTOracle(CaptionMetric):
    """CLIP similarity of the target itself and its caption: what ``clip_t`` can be expected to reach."""

    name: ClassVar[str] = "clip_t_oracle"
    needs: ClassVar[tuple[str, ...]] = ("target_images", "captions")

    def score(self, target_images: Sequence[Image.Image], captions: Sequence[str | None]) -> Tensor:
        """``B`` images and captions -> ``(B,)`` in [-1, 1]; NaN without a caption."""
        given = _present(captions)
        scores = torch.full((len(target_images),), torch.nan)
        if given:
            images = self.encode_given([target_images[index] for index in given])
            scores[given] = cosine_similarity(images, self.encode_captions([captions[index] or "" for index in given]))
        return scores


class ClipDirection(CaptionMetric):
    """Cosine of the change of the image and the change of the caption (StyleGAN-NADA, arXiv:2108.00946).

    Applies where both source and target have a caption. A copy changes nothing: it scores 0.
    """

    name: ClassVar[str] = "clip_direction"
    needs: ClassVar[tuple[str, ...]] = ("pred_images", "source_images", "captions", "source_captions")

    def score(
        self,
        pred_images: Sequence[Image.Image],
        source_images: Sequence[Image.Image],
        captions: Sequence[str | None],
        source_captions: Sequence[str | None],
    ) -> Tensor:
        """``B`` images and captions -> ``(B,)`` in [-1, 1]; NaN where a caption is missing."""
        given = _present([after if before else None for before, after in zip(source_captions, captions, strict=True)])
        scores = torch.full((len(pred_images),), torch.nan)
        if given:
            after = _unit(self.encode_edited(pred_images, source_images)[given])
            before = _unit(self.encode_given([source_images[index] for index in given]))
            words = [
                _unit(self.encode_captions([texts[index] or "" for index in given]))
                for texts in (source_captions, captions)
            ]
            scores[given] = cosine_similarity(after - before, words[1] - words[0])
        return scores

    def describe(self) -> dict[str, object]:
        """Adds what is compared."""
        return super().describe() | {"similarity": "cosine of differences of unit features"}


def _present(captions: Sequence[str | None]) -> list[int]:
    return [index for index, caption in enumerate(captions) if caption]


def _unit(features: Tensor) -> Tensor:
    return torch.nn.functional.normalize(features, dim=1)
