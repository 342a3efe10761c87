"""Stable Diffusion and InstructPix2Pix pipeline folders -> parts of an export, or a pipeline folder that is widened."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.files import write_card
from mgie_lit.checkpoints.cards.origins import origins_of
from mgie_lit.checkpoints.conversion.apple import autoencoder_part
from mgie_lit.checkpoints.destination import new_folder
from mgie_lit.checkpoints.diffusion_source import (
    SCHEDULER_FILE,
    SCHEDULER_FOLDER,
    UNET_FOLDERS,
    open_unet,
    part_config,
    scheduler_config,
    widened_unet,
)
from mgie_lit.checkpoints.json_files import read_json, write_json
from mgie_lit.checkpoints.lazy import OpenFiles
from mgie_lit.checkpoints.parts import Part, check_parts
from mgie_lit.checkpoints.weight_files import has_weights, open_weights
from mgie_lit.checkpoints.writing import DIFFUSERS_STEM, TRANSFORMERS_STEM, OnBytes, write_weights
from mgie_lit.errors import CheckpointError

INDEX = "model_index.json"
EDITING_PIPELINE = "StableDiffusionInstructPix2PixPipeline"
TEXT_PARTS = {"text_encoder": "text_encoder", "tokenizer": "text_tokenizer"}  # in the pipeline -> in the export
_SMALL_FILES = (".json", ".txt", ".model")


@dataclass(frozen=True)
class _Parts:
    unet: Part
    autoencoder: Part
    scheduler: dict[str, Any]


def convert_diffusion_to_export(source: Path, dest: Path, *, widen: bool, on_bytes: OnBytes | None = None) -> None:
    """Write a pipeline folder's models as parts of an export, from which a training can start.

    Args:
        source: Pipeline folder: SD-1.5 (``widen``) or InstructPix2Pix.
        dest: New folder: ``autoencoder/``, ``unet/``, ``scheduler/``; without ``widen`` the text encoder and its
            tokenizer, too, where there are such.
        widen: Let the UNet see the source image, too: new input channels start at zero.
        on_bytes: Told of progress.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit their config, or the UNet is of the other kind.
    """
    files = OpenFiles()
    parts = _open_parts(source, files, widen=widen)
    with new_folder(dest) as folder:
        _write_parts(parts, folder, on_bytes)
        for name, own_name in {} if widen else TEXT_PARTS.items():
            if (source / name).is_dir():
                _copy_component(source / name, folder / own_name, TRANSFORMERS_STEM, files, on_bytes)
        parts_said = "unet, autoencoder, scheduler" if widen else "unet, autoencoder, scheduler, text encoder"
        write_card(folder, Card(dest.name, tuple(origins_of(source, parts_said)), is_pipeline=False).text())


def convert_diffusion_to_diffusers(source: Path, dest: Path, *, on_bytes: OnBytes | None = None) -> None:
    """Write SD-1.5's pipeline folder with the UNet widened, as an InstructPix2Pix training starts from.

    Args:
        source: Pipeline folder.
        dest: New folder for ``StableDiffusionInstructPix2PixPipeline``; weights are safetensors.
        on_bytes: Told of progress.

    Raises:
        CheckpointError: Weights are missing, damaged, or do not fit their config, or the UNet has been widened before.
    """
    files = OpenFiles()
    parts = _open_parts(source, files, widen=True)
    index = read_json(source / INDEX)
    with new_folder(dest) as folder:
        _write_parts(parts, folder, on_bytes, autoencoder_folder="vae")
        for name, library in _components(index):
            if name in ("unet", "vae", SCHEDULER_FOLDER) or not (source / name).is_dir():
                continue
            stem = DIFFUSERS_STEM if library == "diffusers" else TRANSFORMERS_STEM
            _copy_component(source / name, folder / name, stem, files, on_bytes)
        write_json(folder / INDEX, {**index, "_class_name": EDITING_PIPELINE})


def _open_parts(source: Path, files: OpenFiles, *, widen: bool) -> _Parts:
    """UNet for noisy and source latents, autoencoder and scheduler, checked."""
    autoencoder = autoencoder_part(source, files)
    config = part_config(source, UNET_FOLDERS)
    class_name = config.pop("_class_name", "UNet2DConditionModel")
    latent_channels = int(autoencoder.config.get("latent_channels", 4))  # diffusers' default
    in_channels = int(config.get("in_channels", 4))
    _check_channels(source, in_channels, latent_channels, widen=widen)
    tensors = open_unet(source, files)
    if widen:
        unet = Part("unet", class_name, config, tensors)
        check_parts(source, [unet, autoencoder])
        config, tensors = {**config, "in_channels": 2 * latent_channels}, widened_unet(tensors, 2 * latent_channels)
    parts = _Parts(Part("unet", class_name, config, tensors), autoencoder, scheduler_config(source))
    check_parts(source, [parts.unet, parts.autoencoder])
    return parts


def _check_channels(source: Path, in_channels: int, latent_channels: int, *, widen: bool) -> None:
    expected = latent_channels if widen else 2 * latent_channels
    if in_channels != expected:
        other = "instruct-pix2pix" if widen else "sd15"
        raise CheckpointError(
            f"{source}: expected a UNet with {expected} input channels, got {in_channels}; is it --from {other}?"
        )


def _write_parts(
    parts: _Parts, folder: Path, on_bytes: OnBytes | None, *, autoencoder_folder: str = "autoencoder"
) -> None:
    parts.unet.write(folder, on_bytes)
    autoencoder = parts.autoencoder
    Part(autoencoder_folder, autoencoder.class_name, autoencoder.config, autoencoder.tensors).write(folder, on_bytes)
    write_json(folder / SCHEDULER_FOLDER / SCHEDULER_FILE, parts.scheduler)


def _components(index: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and library of what a pipeline is made of."""
    for name, value in index.items():
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            yield name, value[0]


def _copy_component(source: Path, dest: Path, stem: str, files: OpenFiles, on_bytes: OnBytes | None) -> None:
    """Copy a folder's small files, and its weights as safetensors."""
    dest.mkdir(parents=True)
    for file in sorted(source.iterdir()):
        if file.is_file() and file.suffix in _SMALL_FILES and not file.name.endswith(".index.json"):
            shutil.copyfile(file, dest / file.name)
    if has_weights(source):
        write_weights(dest, open_weights(source, files), stem=stem, on_bytes=on_bytes)
