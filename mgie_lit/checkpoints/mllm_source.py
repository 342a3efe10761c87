"""A published MLLM as it lies on disk: legacy LLaVA, Hugging Face LLaVA, plain LLaMA, or an export of ours."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.configs import (
    hf_settings,
    language_config,
    legacy_settings,
    vision_config,
    vision_config_of,
)
from mgie_lit.checkpoints.json_files import CONFIG_FILE, read_json
from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors, OpenFiles
from mgie_lit.checkpoints.names.clip import CLIP
from mgie_lit.checkpoints.names.hf_llava import HF_LLAVA
from mgie_lit.checkpoints.names.llava import LLAVA
from mgie_lit.checkpoints.names.mllm import MLLM_PART
from mgie_lit.checkpoints.names.rules import Format
from mgie_lit.checkpoints.weight_files import has_weights, open_weights
from mgie_lit.errors import CheckpointError

PART = "mllm"  # the part's folder in an export
EMBEDDINGS = "language_model.model.embed_tokens.weight"
LM_HEAD = "language_model.lm_head.weight"
_TOWER, _PROJECTOR = "vision_tower.", "projector."


@dataclass(frozen=True)
class MLLMSource:
    """Tensors of an MLLM by our names, and where they come from.

    Args:
        folder: With the language model's weights and config.
        format: How the folder calls its tensors.
        tensors: The language model's first, then the vision tower's where that lies elsewhere.
        tower: Folder of a vision tower outside; None = inside, or none.
    """

    folder: Path
    format: Format
    tensors: LazyTensors
    tower: Path | None

    @property
    def has_vision(self) -> bool:
        """Whether this is an MLLM that sees, and not a LLaMA alone."""
        return any(name.startswith(_TOWER) for name in self.tensors)

    def spell(self, name: str) -> str:
        """What the source calls a tensor of ours."""
        outside = self.tower is not None and name.startswith(_TOWER)
        return CLIP.from_ours(name) if outside else self.format.from_ours(name)

    def config(self) -> dict[str, Any]:
        """Arguments of our ``MLLM``, without ``image_patch_id`` unless the source is an export of ours.

        A legacy LLaVA seldom describes a tower among its own weights: then the config of the CLIP that it names counts,
        and where that is not on this machine, the shapes of the weights.

        Returns:
            ``language``, ``vision``, ``vision_layer``, ``projector_layers``.

        Raises:
            CheckpointError: The config is missing, or asks for parts of another kind.
        """
        path = self.folder / CONFIG_FILE
        config = read_json(path)
        if self.format is MLLM_PART:
            return {key: value for key, value in config.items() if not key.startswith("_")}
        is_hf = self.format is HF_LLAVA
        language = language_config(config.get("text_config", {}) if is_hf else config, path)
        if not self.has_vision:
            return {"language": language, "vision": None}
        settings = hf_settings(config, path) if is_hf else legacy_settings(config, path)
        return {"language": language, "vision": self._vision_config(config, path), **settings}

    def _vision_config(self, config: dict[str, Any], path: Path) -> dict[str, Any]:
        if self.tower is not None:
            return vision_config(read_json(self.tower / CONFIG_FILE), self.tower / CONFIG_FILE)
        if "vision_config" in config:
            return vision_config(config, path)
        named = _named_config(self.folder, config) if self.format is LLAVA else None
        return vision_config_of(self.tensors) if named is None else vision_config(read_json(named), named)


def open_mllm(folder: Path, *, vision: Path | None = None, files: OpenFiles | None = None) -> MLLMSource:
    """The tensors of an MLLM folder under our names, with the vision tower that its config names.

    Args:
        folder: LLaVA in either format, LLaMA, an ``mllm`` part of ours or an export folder with one.
        vision: CLIP folder of the tower; None = inside the folder's weights, else what its config names.
        files: Keeps the files open while they are used; None = one at a time.

    Returns:
        The source; no numbers have been read.

    Raises:
        CheckpointError: There are no such weights, they are damaged, or the vision tower is nowhere.
    """
    files = files or OpenFiles()
    folder = folder / PART if has_weights(folder / PART) else folder
    tensors = open_weights(folder, files)
    format_ = _detect(tensors, folder)
    ours = format_.rename(tensors)
    tower = None
    if any(name.startswith(_PROJECTOR) for name in ours) and not any(name.startswith(_TOWER) for name in ours):
        tower = vision or _named_tower(folder)
        ours |= CLIP.rename(open_weights(tower, files))
    elif vision is not None and format_ is LLAVA:
        tower = vision  # its config alone; the weights inside are the ones that were trained with
    return MLLMSource(folder, format_, ours, tower)


def with_tied_head(tensors: LazyTensors, *, is_tied: bool) -> dict[str, LazyTensor]:
    """Tensors in which an LM head that is the word embeddings' own table has its name, too."""
    head = {LM_HEAD: tensors[EMBEDDINGS]} if is_tied and LM_HEAD not in tensors and EMBEDDINGS in tensors else {}
    return {**tensors, **head}


def _detect(names: Iterable[str], folder: Path) -> Format:
    names = list(names)

    def has(*prefixes: str) -> bool:
        return any(name.startswith(prefixes) for name in names)

    if has("multi_modal_projector.", "model.multi_modal_projector.", "model.language_model."):
        return HF_LLAVA
    if has("language_model."):
        return MLLM_PART
    if has("model.layers.", "model.embed_tokens."):
        return LLAVA
    raise CheckpointError(
        f"{folder}: expected the weights of LLaVA, LLaMA or an export's mllm, got tensors named "
        f"{', '.join(sorted(names)[:4])}"
    )


def _named_tower(folder: Path) -> Path:
    """The vision tower's folder that a legacy LLaVA config names; a hub id is looked up on this machine only."""
    config = read_json(folder / CONFIG_FILE)
    name = config.get("mm_vision_tower")
    advice = "download the tower (LLaVA's is openai/clip-vit-large-patch14) and name its folder with --vision"
    if not isinstance(name, str) or not name:
        raise CheckpointError(
            f"{folder}: expected a vision tower among the weights or mm_vision_tower in {CONFIG_FILE}, found neither; "
            f"{advice}"
        )
    for place in (Path(name), folder / name):
        if has_weights(place):
            return place
    snapshot = _cached(name)
    if snapshot is None:
        raise CheckpointError(
            f"{folder}: its vision tower {name} is neither a folder nor in this machine's hub cache; {advice}"
        )
    return snapshot


def _named_config(folder: Path, config: Mapping[str, Any]) -> Path | None:
    """Config file of the tower that a legacy LLaVA config names, with or without weights beside it."""
    name = config.get("mm_vision_tower")
    if not isinstance(name, str) or not name:
        return None
    for place in (Path(name), folder / name):
        if (place / CONFIG_FILE).is_file():
            return place / CONFIG_FILE
    snapshot = _cached(name)
    return snapshot / CONFIG_FILE if snapshot is not None and (snapshot / CONFIG_FILE).is_file() else None


def _cached(name: str) -> Path | None:
    """Folder of a hub id in this machine's cache."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError):
        return None
