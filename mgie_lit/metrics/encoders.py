"""Encoders of images and captions for feature metrics: from a folder or a named hub id, never downloaded unasked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.metrics.encoder_files import (
    HUB_ID,
    EncoderKind,
    EncoderParts,
    check_folder,
    from_pretrained,
    input_side,
    load_parts,
    load_tokenizer,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image
    from transformers import PretrainedConfig

    from mgie_lit.metrics.preprocessing import Preprocessing


class ImageEncoder(Protocol):
    """Turns images into feature vectors."""

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """``B`` RGB images of any size -> ``(B, D)`` float32 on the CPU, not normalised."""
        ...

    def identity(self) -> dict[str, object]:
        """Model, preprocessing and weights as plain values: equal identities give equal features."""
        ...


class ImageTextEncoder(ImageEncoder, Protocol):
    """Turns images and texts into vectors of one space."""

    def encode_texts(self, texts: Sequence[str], *, truncate: bool) -> Tensor:
        """``B`` texts -> ``(B, D)`` float32 on the CPU, not normalised; long ones are cut, or an error."""
        ...

    def text_identity(self) -> dict[str, object]:
        """What the features of texts depend on, as plain values."""
        ...


class TransformersEncoder(ABC):
    """Shared loading of encoders that transformers knows; nothing is read before the first use.

    Args:
        source: Folder with ``config.json``, ``preprocessor_config.json`` and weights, or a hub id (downloaded, as
            named by the user). None is accepted so that configs can leave it open; the first use then says what to do.
        preprocessing: In place of the one that the source prescribes, for protocols with rules of their own.
        device: Where the model runs; None = the GPU where there is one.
        batch_size: Images in one forward pass.
    """

    key: ClassVar[str]  # the user's name of `source`
    recommended: ClassVar[str]  # hub id offered in messages
    model_types: ClassVar[tuple[str, ...]]  # accepted `model_type` of config.json
    feature: ClassVar[str]  # which output is the feature
    weight_prefixes: ClassVar[tuple[str, ...]] = ("",)  # parameters that the feature depends on

    def __init__(
        self,
        source: str | Path | None = None,
        *,
        preprocessing: Preprocessing | None = None,
        device: str | None = "cpu",
        batch_size: int = 32,
    ) -> None:
        self.source = source
        self.preprocessing = preprocessing
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        self.batch_size = batch_size

    @classmethod
    @abstractmethod
    def load_model(cls, source: str, config: PretrainedConfig, **options: object) -> tuple[nn.Module, dict[str, Any]]:
        """The model and transformers' loading report."""

    @abstractmethod
    def features(self, model: nn.Module, pixels: Tensor) -> Tensor:
        """``(B, 3, P, P)`` -> ``(B, D)``."""

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """Features of images, not normalised.

        The very same list of images, asked for again by another metric of the same encoder, is not encoded again.

        Args:
            images: ``B`` RGB images of any size, at least one.

        Returns:
            ``(B, D)`` float32 on the CPU.

        Raises:
            ConfigError: No source was given, or it is neither a folder nor a hub id.
            CheckpointError: The source can not be loaded; the message names files and remedy.
        """
        known, features = self._parts.recent.get("images", ([], torch.empty(0)))
        if len(known) == len(images) and all(one is other for one, other in zip(known, images, strict=True)):
            return features
        spans = range(0, len(images), self.batch_size)
        features = torch.cat([self._encode(images[start : start + self.batch_size]) for start in spans])
        self._parts.recent["images"] = (list(images), features)
        return features

    def identity(self) -> dict[str, object]:
        """What the features depend on.

        Returns:
            Source, model type, feature, preprocessing and a hash of the weights, as plain values.

        Raises:
            ConfigError: As :meth:`encode`.
            CheckpointError: As :meth:`encode`.
        """
        return self._describe(self.feature, self.weight_prefixes) | {"preprocessing": self._parts.preprocess.describe()}

    def _encode(self, images: Sequence[Image.Image]) -> Tensor:
        pixels = self._parts.preprocess.pixels(images)
        with torch.no_grad():
            return self.features(self._parts.model, pixels.to(self.device)).float().cpu()

    def _describe(self, feature: str, prefixes: tuple[str, ...]) -> dict[str, object]:
        identity: dict[str, object] = {
            "source": str(self.source),
            "model_type": self._parts.model_type,
            "feature": feature,
            "weights_sha256": self._parts.weights_hash(prefixes),
        }
        return identity | ({"commit": self._parts.commit} if self._parts.commit else {})

    @cached_property
    def _kind(self) -> EncoderKind:
        return EncoderKind(self.key, self.model_types, self.weight_prefixes, self._remedy(), type(self).load_model)

    @cached_property
    def _parts(self) -> EncoderParts:
        return load_parts(self._kind, self._checked_source(), self.device, self.preprocessing)

    def _checked_source(self) -> str:
        given = None if self.source is None else str(self.source)
        if given is not None:
            folder = Path(given).expanduser()
            if folder.is_dir():
                check_folder(folder, self._kind, own_preprocessing=self.preprocessing is not None)
                return str(folder)
            if HUB_ID.fullmatch(given):
                return given
        got = "nothing" if given is None else f"{given}, which is neither a folder here nor a hub id (owner/name)"
        raise ConfigError(
            f"{self.key}: expected a folder or a hub id of a {' or '.join(self.model_types)} model, got {got}; "
            f"{self._remedy()}"
        )

    @classmethod
    def _remedy(cls) -> str:
        folder = f"weights/{cls.key.rsplit('.', 1)[-1]}"
        return (
            f"fetch config.json, preprocessor_config.json and model.safetensors (or pytorch_model.bin) from "
            f"https://huggingface.co/{cls.recommended}, e.g. `hf download {cls.recommended} --local-dir {folder}`, "
            f"and give {cls.key}={folder}; or let them be downloaded now by {cls.key}={cls.recommended}"
        )


class ClipEncoder(TransformersEncoder):
    """CLIP's projected embeddings of images and texts (arXiv:2103.00020); any size of ``model_type: clip``."""

    key: ClassVar[str] = "encoders.clip"
    recommended: ClassVar[str] = "openai/clip-vit-base-patch32"
    model_types: ClassVar[tuple[str, ...]] = ("clip",)
    feature: ClassVar[str] = "projected image embedding"
    text_feature: ClassVar[str] = "projected text embedding"
    weight_prefixes: ClassVar[tuple[str, ...]] = ("vision_model.", "visual_projection.")
    text_prefixes: ClassVar[tuple[str, ...]] = ("text_model.", "text_projection.")

    @classmethod
    def load_model(cls, source: str, config: PretrainedConfig, **options: object) -> tuple[nn.Module, dict[str, Any]]:
        """The whole CLIP: its config, not the vision tower's, holds the width of the projection."""
        from transformers import CLIPModel

        return from_pretrained(CLIPModel, source, config=config, **options)

    def features(self, model: nn.Module, pixels: Tensor) -> Tensor:
        """``(B, 3, P, P)`` -> ``(B, D)``, the space that CLIP shares with text."""
        embedding: Tensor = model.get_image_features(pixel_values=pixels).pooler_output  # type: ignore[operator]
        return embedding

    def encode_texts(self, texts: Sequence[str], *, truncate: bool) -> Tensor:
        """Features of texts in the space of the images, not normalised.

        Args:
            texts: ``B`` captions, at least one.
            truncate: Cut texts that are longer than CLIP reads (77 tokens with start and end); otherwise an error.

        Returns:
            ``(B, D)`` float32 on the CPU.

        Raises:
            ConfigError: As :meth:`encode`.
            CheckpointError: As :meth:`encode`, or the source has no tokenizer.
            DataError: A text is too long and ``truncate`` is off.
        """
        tokenizer = load_tokenizer(self._kind, self._checked_source())
        limit = int(self._parts.config.text_config.max_position_embeddings)
        if not truncate:
            for text, tokens in zip(texts, tokenizer(list(texts))["input_ids"], strict=True):
                if len(tokens) > limit:
                    raise DataError(
                        f"caption: expected at most {limit} tokens, got {len(tokens)} in {text[:60]!r}...; shorten it, "
                        "or cut long ones with truncate=true of the metric"
                    )
        batch = tokenizer(list(texts), padding=True, truncation=True, max_length=limit, return_tensors="pt")
        model: Any = self._parts.model
        with torch.no_grad():
            encoded = model.get_text_features(
                input_ids=batch["input_ids"].to(self.device), attention_mask=batch["attention_mask"].to(self.device)
            )
        embedding: Tensor = encoded.pooler_output
        return embedding.float().cpu()

    def text_identity(self) -> dict[str, object]:
        """What the features of texts depend on: as :meth:`identity`, for the text tower."""
        return self._describe(self.text_feature, self.text_prefixes)


class DinoEncoder(TransformersEncoder):
    """The class token after the last layer norm of DINO (arXiv:2104.14294) or DINOv2 (arXiv:2304.07193)."""

    key: ClassVar[str] = "encoders.dino"
    recommended: ClassVar[str] = "facebook/dino-vits16"
    model_types: ClassVar[tuple[str, ...]] = ("vit", "dinov2", "dinov2_with_registers")
    feature: ClassVar[str] = "class token after the last layer norm"

    @classmethod
    def load_model(cls, source: str, config: PretrainedConfig, **options: object) -> tuple[nn.Module, dict[str, Any]]:
        """The backbone without ViT's extra pooling layer, which DINO never trained."""
        from transformers import AutoModel

        extra = {"add_pooling_layer": False} if config.model_type == "vit" else {}
        return from_pretrained(AutoModel, source, config=config, trust_remote_code=False, **extra, **options)

    def features(self, model: nn.Module, pixels: Tensor) -> Tensor:
        """``(B, 3, P, P)`` -> ``(B, D)``; positions are interpolated where images have another size than trained on."""
        other_size = pixels.shape[-1] != input_side(self._parts.config) and self._parts.model_type == "vit"
        extra = {"interpolate_pos_encoding": True} if other_size else {}  # the others do it by themselves
        states: Tensor = model(pixel_values=pixels, **extra).last_hidden_state  # (B, 1 + patches, D)
        return states[:, 0]
