"""Models, preprocessing and tokenizers of encoders, from a folder or a hub id named by the user."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import nn

from mgie_lit.errors import CheckpointError
from mgie_lit.functional.hashing import tensors_hash

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from transformers import PretrainedConfig

    from mgie_lit.metrics.preprocessing import Preprocessing

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
WEIGHT_FILES = (
    "model.safetensors",
    "pytorch_model.bin",
    "model.safetensors.index.json",
    "pytorch_model.bin.index.json",
)
PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
LOAD_ERRORS = (OSError, ValueError, RuntimeError, KeyError, EOFError, SafetensorError, UnpicklingError)
_PREPROCESSING_KEYS = ("size", "crop_size", "do_resize", "do_center_crop", "do_normalize", "rescale_factor")


@dataclass(frozen=True)
class EncoderKind:
    """What a class of encoders accepts, and how its messages name it."""

    key: str  # the user's name of the source
    model_types: tuple[str, ...]  # accepted `model_type` of config.json
    weight_prefixes: tuple[str, ...]  # parameters that the feature depends on
    remedy: str  # what to do, for messages
    load_model: Callable[..., tuple[nn.Module, dict[str, Any]]]  # (source, config, **options) -> model, report


@dataclass(frozen=True)
class EncoderParts:
    """A loaded model with its preprocessing."""

    model: nn.Module
    preprocess: _FolderPreprocessing | Preprocessing
    config: PretrainedConfig
    recent: dict[str, tuple[list[Image.Image], Tensor]] = field(default_factory=dict)  # images encoded last
    hashes: dict[tuple[str, ...], str] = field(default_factory=dict)  # of the weights, by the prefixes of their names

    @property
    def model_type(self) -> str:
        """As in config.json."""
        return str(self.config.model_type)

    def weights_hash(self, prefixes: tuple[str, ...]) -> str:
        """As :func:`hash_weights`, once a process."""
        if prefixes not in self.hashes:
            self.hashes[prefixes] = hash_weights(self.model, prefixes)
        return self.hashes[prefixes]

    @property
    def commit(self) -> str | None:
        """Of a hub id."""
        return getattr(self.config, "_commit_hash", None)


@dataclass(frozen=True)
class _FolderPreprocessing:
    """The preprocessing that an encoder's folder prescribes."""

    processor: Any  # a PIL image processor of transformers

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """RGB images of any size -> ``(B, 3, P, P)`` float32."""
        batch = self.processor(list(images), return_tensors="pt", input_data_format="channels_last")
        pixels: Tensor = batch["pixel_values"]
        return pixels

    def describe(self) -> dict[str, object]:
        """Size, crop, filter and normalisation, as plain values."""
        settings = self.processor.to_dict()
        chosen = {key: settings[key] for key in _PREPROCESSING_KEYS if key in settings}
        return chosen | {
            "class": type(self.processor).__name__,
            "resample": Image.Resampling(settings["resample"]).name.lower(),
            "mean": list(settings["image_mean"]),
            "std": list(settings["image_std"]),
        }


@lru_cache(maxsize=4)
def load_parts(kind: EncoderKind, source: str, device: str, preprocessing: Preprocessing | None) -> EncoderParts:
    """Load once for all metrics of a process that use the same encoder.

    Args:
        kind: What is expected in ``source``.
        source: A folder, or a hub id, which is downloaded.
        device: Where the model runs.
        preprocessing: In place of the folder's own; None = the folder's.

    Returns:
        Model in eval mode and preprocessing.

    Raises:
        CheckpointError: The source can not be loaded; the message names files and remedy.
    """
    from transformers import AutoConfig

    local = {"local_files_only": True} if Path(source).is_dir() else {}
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False, **local)
        if config.model_type not in kind.model_types:
            raise CheckpointError(
                f"{kind.key}: expected a model of type {' or '.join(kind.model_types)} in {source}, "
                f"got {config.model_type}; {kind.remedy}"
            )
        preprocess: _FolderPreprocessing | Preprocessing
        if preprocessing is None:
            preprocess = _FolderPreprocessing(_load_processor(kind, source, local))
        else:
            preprocess = preprocessing.for_side(input_side(config))
        model, report = kind.load_model(source, config, output_loading_info=True, dtype=torch.float32, **local)
    except LOAD_ERRORS as error:
        raise _unloadable(kind, source, error) from error
    missing = sorted(name for name in report["missing_keys"] if name.startswith(kind.weight_prefixes))
    if missing:
        raise CheckpointError(
            f"{kind.key}: expected all weights in {source}, got none for {', '.join(missing[:3])} "
            f"({len(missing)} tensors); {kind.remedy}"
        )
    return EncoderParts(model.eval().requires_grad_(False).to(device), preprocess, config)


def input_side(config: PretrainedConfig) -> int:
    """Pixels a side of the images that a vision model was made for."""
    vision = getattr(config, "vision_config", config)
    side = vision.image_size
    return int(side if isinstance(side, int) else side[0])


@lru_cache(maxsize=4)
def load_tokenizer(kind: EncoderKind, source: str) -> Any:  # noqa: ANN401 - a tokenizer of transformers
    """The tokenizer of a text encoder.

    Args:
        kind: What is expected in ``source``.
        source: A folder, or a hub id, which is downloaded.

    Returns:
        A tokenizer of transformers.

    Raises:
        CheckpointError: There is none, or it can not be loaded.
    """
    from transformers import AutoTokenizer

    folder = Path(source)
    if folder.is_dir():
        names = {path.name for path in folder.iterdir()}
        if not ("tokenizer.json" in names or {"vocab.json", "merges.txt"} <= names):
            raise CheckpointError(
                f"{kind.key}: expected tokenizer.json, or vocab.json and merges.txt, in {source} to encode captions, "
                f"got neither; fetch them from where its weights came from"
            )
    try:
        local = {"local_files_only": True} if folder.is_dir() else {}
        return AutoTokenizer.from_pretrained(source, trust_remote_code=False, **local)
    except (*LOAD_ERRORS, TypeError) as error:
        raise _unloadable(kind, source, error) from error


def check_folder(folder: Path, kind: EncoderKind, *, own_preprocessing: bool) -> None:
    """Make sure that the files of an encoder are there.

    Args:
        folder: Given by the user.
        kind: For the message.
        own_preprocessing: The folder's preprocessing is not used.

    Raises:
        CheckpointError: A file is missing; the message names all that are.
    """
    wanted = {"config.json": ("config.json",), "model.safetensors": WEIGHT_FILES}
    if not own_preprocessing:
        wanted["preprocessor_config.json"] = PREPROCESSOR_FILES
    missing = [name for name, names in wanted.items() if not any((folder / one).is_file() for one in names)]
    if missing:
        raise CheckpointError(
            f"{kind.key}: expected {', '.join(wanted)} in {folder}, got no {', '.join(missing)}; {kind.remedy}"
        )


def from_pretrained(kind: Any, source: str, **options: object) -> tuple[nn.Module, dict[str, Any]]:  # noqa: ANN401
    """Call ``kind.from_pretrained``, whose many overloads say too little for a type check."""
    model, report = kind.from_pretrained(source, **options)
    return model, report


def hash_weights(model: nn.Module, prefixes: tuple[str, ...] = ("",)) -> str:
    """Hash names, shapes, types and bytes of a model's tensors, whatever file they came from.

    Args:
        model: Its ``state_dict`` is hashed, in order of the names.
        prefixes: Only tensors whose names begin with one of these.

    Returns:
        SHA-256, 64 hexadecimal digits.
    """
    return tensors_hash({name: tensor for name, tensor in model.state_dict().items() if name.startswith(prefixes)})


def _unloadable(kind: EncoderKind, source: str, error: Exception) -> CheckpointError:
    reason = next(iter(str(error).splitlines()), type(error).__name__)
    read_as = "" if Path(source).is_dir() else " (no such folder here, so taken as a hub id)"
    return CheckpointError(f"{kind.key}: {source}{read_as} can not be loaded: {reason}; {kind.remedy}")


def _load_processor(kind: EncoderKind, source: str, local: dict[str, bool]) -> Any:  # noqa: ANN401
    """The PIL variant of the preprocessing that the folder names; never torchvision's, which resizes differently."""
    import transformers

    settings, _ = transformers.CLIPImageProcessorPil.get_image_processor_dict(source, **local)
    named = str(settings.get("image_processor_type") or settings.get("feature_extractor_type"))
    name = named.removesuffix("Pil").removesuffix("Fast").replace("FeatureExtractor", "ImageProcessor") + "Pil"
    processor = getattr(transformers, name, None)
    if processor is None:
        raise CheckpointError(
            f"{kind.key}: expected image_processor_type to name an image processor of transformers in {source}, "
            f"got {named}; {kind.remedy}"
        )
    return processor.from_pretrained(source, **local)
