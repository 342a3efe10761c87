"""The parts of an export folder: config and weights of each, checked against the module that will read them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from huggingface_hub.errors import StrictDataclassError
from torch import nn
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from mgie_lit.checkpoints.json_files import CONFIG_FILE, write_json
from mgie_lit.checkpoints.lazy import LazyTensors
from mgie_lit.checkpoints.mismatch import Fit, check_fit
from mgie_lit.checkpoints.writing import OnBytes, write_weights
from mgie_lit.errors import CheckpointError
from mgie_lit.models.autoencoder import PatchAutoencoder
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM

_CLASSES: dict[str, Callable[[dict[str, Any]], nn.Module]] = {
    "MLLM": lambda config: MLLM(**config),
    "EditHead": lambda config: EditHead(**config),
    "PatchAutoencoder": lambda config: PatchAutoencoder(**config),
    "AutoencoderKL": AutoencoderKL.from_config,
    "UNet2DConditionModel": UNet2DConditionModel.from_config,
}


@dataclass(frozen=True)
class Part:
    """One model of an export.

    Args:
        folder: Of the part in the export, e.g. ``unet``.
        class_name: Of the module that reads it.
        config: That class's arguments.
        tensors: Weights by our names.
        spell: Our name -> the source's, for messages.
    """

    folder: str
    class_name: str
    config: Mapping[str, Any]
    tensors: LazyTensors
    spell: Callable[[str], str] = str

    def fit(self) -> Fit:
        """What the module needs beside what there is; no memory is taken for it.

        Returns:
            To be checked together with other parts.

        Raises:
            CheckpointError: The config makes no such module, or names another class.
        """
        if self.class_name not in _CLASSES:
            raise CheckpointError(
                f"{self.folder}: expected one of {', '.join(_CLASSES)}, got the config of a {self.class_name}"
            )
        try:
            with torch.device("meta"):
                module = _CLASSES[self.class_name](dict(self.config))
        except (TypeError, ValueError, LookupError, AttributeError, StrictDataclassError) as error:
            raise CheckpointError(
                f"{self.folder}: expected the config of a {self.class_name}, can not make one of it ({error})"
            ) from error
        expected = {name: tuple(value.shape) for name, value in module.state_dict().items()}
        return Fit(self.folder, expected, self.tensors, self.spell)

    def write(self, export: Path, on_bytes: OnBytes | None = None) -> None:
        """Write config and weights to the part's folder in ``export``."""
        config = {key: value for key, value in self.config.items() if not key.startswith("_")}
        notes = {"_class_name": self.class_name, "_diffusers_version": version("diffusers")}
        write_json(export / self.folder / CONFIG_FILE, {**config, **notes})
        write_weights(export / self.folder, self.tensors, on_bytes=on_bytes)


def check_parts(source: object, parts: Iterable[Part], others: LazyTensors | None = None) -> None:
    """Whether every part is whole.

    Args:
        source: Where they come from, for the message.
        parts: To be written.
        others: Tensors that belong to no part: each is reported.

    Raises:
        CheckpointError: One message for everything that does not fit.
    """
    check_fit(source, [Fit("no part", {}, others or {}), *(part.fit() for part in parts)])


def write_image_processor(export: Path, image_size: int) -> None:
    """Write CLIP's preprocessing for a tower of ``image_size`` pixels a side; without torchvision."""
    processor: Any = CLIPImageProcessorPil(
        size={"shortest_edge": image_size}, crop_size={"height": image_size, "width": image_size}
    )
    processor.save_pretrained(export / "image_processor")
