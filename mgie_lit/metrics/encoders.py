"""Image encoders for feature metrics: loaded from a folder or a named hub id, never downloaded without being asked."""

from __future__ import annotations

import hashlib
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor, nn

from mgie_lit.errors import CheckpointError, ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transformers import PretrainedConfig

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, UnpicklingError)
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
PREPROCESSING_KEYS = ("size", "crop_size", "do_resize", "do_center_crop", "do_normalize", "rescale_factor")


class ImageEncoder(Protocol):
    """Turns images into feature vectors."""

    def encode(self, images: Sequence[Image.Image]) -> Tensor:
        """``B`` RGB images of any size -> ``(B, D)`` float32 on the CPU, not normalised."""
        ...

    def identity(self) -> dict[str, object]:
        """Model, preprocessing and weights as plain values: equal identities give equal features."""
        ...


@dataclass(frozen=True)
class EncoderParts:
    """A loaded model with the preprocessing that its folder prescribes."""

    model: nn.Module
    processor: Any  # a PIL image processor of transformers
    model_type: str  # as in config.json
    commit: str | None  # of a hub id

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """Preprocessed images, ``(B, 3, P, P)`` float32."""
        batch = self.processor(list(images), return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = batch["pixel_values"]
        return pixels

    def preprocessing(self) -> dict[str, object]:
        """Size, crop, filter and normalisation, as plain values."""
        settings = self.processor.to_dict()
        chosen = {key: settings[key] for key in PREPROCESSING_KEYS if key in settings}
        return chosen | {
            "class": type(self.processor).__name__,
            "resample": Image.Resampling(settings["resample"]).name.lower(),
            "mean": list(settings["image_mean"]),
            "std": list(settings["image_std"]),
        }


class TransformersEncoder(ABC):
    """Shared loading of encoders that transformers knows; nothing is read before the first use.

    Args:
        source: Folder with ``config.json``, ``preprocessor_config.json`` and weights, or a hub id (downloaded, as
            named by the user). None is accepted so that configs can leave it open; the first use then says what to do.
        device: Where the model runs.
        batch_size: Images in one forward pass.
    """

    key: ClassVar[str]  # the user's name of `source`
    recommended: ClassVar[str]  # hub id offered in messages
    model_types: ClassVar[tuple[str, ...]]  # accepted `model_type` of config.json
    feature: ClassVar[str]  # which output is the feature
    weight_prefixes: ClassVar[tuple[str, ...]] = ("",)  # parameters that the feature depends on

    def __init__(self, source: str | Path | None = None, *, device: str = "cpu", batch_size: int = 32) -> None:
        self.source = source
        self.device = device
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

        Args:
            images: ``B`` RGB images of any size, at least one.

        Returns:
            ``(B, D)`` float32 on the CPU.

        Raises:
            ConfigError: No source was given, or it is neither a folder nor a hub id.
            CheckpointError: The source can not be loaded; the message names files and remedy.
        """
        features = []
        for start in range(0, len(images), self.batch_size):
            pixels = self._parts.pixels(images[start : start + self.batch_size])
            with torch.no_grad():
                features.append(self.features(self._parts.model, pixels.to(self.device)).float().cpu())
        return torch.cat(features)

    def identity(self) -> dict[str, object]:
        """What the features depend on.

        Returns:
            Source, model type, feature, preprocessing and a hash of the weights, as plain values.

        Raises:
            ConfigError: As :meth:`encode`.
            CheckpointError: As :meth:`encode`.
        """
        identity: dict[str, object] = {
            "source": str(self.source),
            "model_type": self._parts.model_type,
            "feature": self.feature,
            "preprocessing": self._parts.preprocessing(),
            "weights_sha256": self._weights_hash,
        }
        return identity | ({"commit": self._parts.commit} if self._parts.commit else {})

    @cached_property
    def _parts(self) -> EncoderParts:
        return _load_parts(type(self), self._checked_source(), self.device)

    @cached_property
    def _weights_hash(self) -> str:
        return hash_weights(self._parts.model, self.weight_prefixes)

    def _checked_source(self) -> str:
        given = None if self.source is None else str(self.source)
        if given is not None:
            folder = Path(given).expanduser()
            if folder.is_dir():
                _check_folder(folder, self.key, self._remedy())
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


class ClipImageEncoder(TransformersEncoder):
    """CLIP's projected image embedding (arXiv:2103.00020); any size of ``model_type: clip``."""

    key: ClassVar[str] = "encoders.clip"
    recommended: ClassVar[str] = "openai/clip-vit-base-patch32"
    model_types: ClassVar[tuple[str, ...]] = ("clip",)
    feature: ClassVar[str] = "projected image embedding"
    weight_prefixes: ClassVar[tuple[str, ...]] = ("vision_model.", "visual_projection.")

    @classmethod
    def load_model(cls, source: str, config: PretrainedConfig, **options: object) -> tuple[nn.Module, dict[str, Any]]:
        """The whole CLIP: its config, not the vision tower's, holds the width of the projection."""
        from transformers import CLIPModel

        return _from_pretrained(CLIPModel, source, config=config, **options)

    def features(self, model: nn.Module, pixels: Tensor) -> Tensor:
        """``(B, 3, P, P)`` -> ``(B, D)``, the space that CLIP shares with text."""
        embedding: Tensor = model.get_image_features(pixel_values=pixels).pooler_output  # type: ignore[operator]
        return embedding


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
        return _from_pretrained(AutoModel, source, config=config, **extra, **options)

    def features(self, model: nn.Module, pixels: Tensor) -> Tensor:
        """``(B, 3, P, P)`` -> ``(B, D)``."""
        states: Tensor = model(pixel_values=pixels).last_hidden_state  # (B, 1 + patches, D)
        return states[:, 0]


def hash_weights(model: nn.Module, prefixes: tuple[str, ...] = ("",)) -> str:
    """Hash names, shapes, types and bytes of a model's tensors, whatever file they came from.

    Args:
        model: Its ``state_dict`` is hashed, in order of the names.
        prefixes: Only tensors whose names begin with one of these.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(model.state_dict().items()):
        if name.startswith(prefixes):
            digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
            digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


@lru_cache(maxsize=4)
def _load_parts(kind: type[TransformersEncoder], source: str, device: str) -> EncoderParts:
    """Load once for all metrics of a process that use the same encoder."""
    from transformers import AutoConfig

    local = {"local_files_only": True} if Path(source).is_dir() else {}
    try:
        config = AutoConfig.from_pretrained(source, **local)
        if config.model_type not in kind.model_types:
            raise CheckpointError(
                f"{kind.key}: expected a model of type {' or '.join(kind.model_types)} in {source}, "
                f"got {config.model_type}; {kind._remedy()}"
            )
        processor = _load_processor(kind, source, local)
        model, report = kind.load_model(source, config, output_loading_info=True, dtype=torch.float32, **local)
    except LOAD_ERRORS as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        read_as = "" if local else " (no such folder here, so taken as a hub id)"
        raise CheckpointError(f"{kind.key}: {source}{read_as} can not be loaded: {reason}; {kind._remedy()}") from error
    missing = sorted(name for name in report["missing_keys"] if name.startswith(kind.weight_prefixes))
    if missing:
        raise CheckpointError(
            f"{kind.key}: expected all weights in {source}, got none for {', '.join(missing[:3])} "
            f"({len(missing)} tensors); {kind._remedy()}"
        )
    return EncoderParts(
        model=model.eval().requires_grad_(False).to(device),
        processor=processor,
        model_type=config.model_type,
        commit=getattr(config, "_commit_hash", None),
    )


def _from_pretrained(kind: Any, source: str, **options: object) -> tuple[nn.Module, dict[str, Any]]:  # noqa: ANN401
    """Call ``kind.from_pretrained``, whose many overloads say too little for a type check."""
    model, report = kind.from_pretrained(source, **options)
    return model, report


def _load_processor(kind: type[TransformersEncoder], source: str, local: dict[str, bool]) -> Any:  # noqa: ANN401
    """The PIL variant of the preprocessing that the folder names; never torchvision's, which resizes differently."""
    import transformers

    settings, _ = transformers.CLIPImageProcessorPil.get_image_processor_dict(source, **local)
    named = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    name = named.removesuffix("Pil").removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor") + "Pil"
    processor = getattr(transformers, name, None)
    if processor is None:
        raise CheckpointError(
            f"{kind.key}: expected image_processor_type to name an image processor of transformers in {source}, "
            f"got {named}; {kind._remedy()}"
        )
    return processor.from_pretrained(source, **local)


def _check_folder(folder: Path, key: str, remedy: str) -> None:
    wanted = {
        "config.json": ("config.json",),
        "preprocessor_config.json": PREPROCESSOR_FILES,
        "model.safetensors": WEIGHT_FILES,
    }
    missing = [name for name, names in wanted.items() if not any((folder / one).is_file() for one in names)]
    if missing:
        raise CheckpointError(f"{key}: expected {', '.join(wanted)} in {folder}, got no {', '.join(missing)}; {remedy}")
