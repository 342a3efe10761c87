"""UNet and autoencoder as they lie on disk: in a diffusers pipeline folder, alone, or in an export of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgie_lit.checkpoints.json_files import CONFIG_FILE, read_json
from mgie_lit.checkpoints.lazy import LazyTensor, LazyTensors, OpenFiles
from mgie_lit.checkpoints.names.autoencoder import AUTOENCODER
from mgie_lit.checkpoints.names.unet import UNET
from mgie_lit.checkpoints.weight_files import has_weights, open_weights
from mgie_lit.errors import CheckpointError

UNET_FOLDERS = ("unet",)
AUTOENCODER_FOLDERS = ("vae", "autoencoder")  # diffusers' name, ours
SCHEDULER_FOLDER, SCHEDULER_FILE = "scheduler", "scheduler_config.json"
CONV_IN = "conv_in.weight"


def part_folder(path: Path, names: tuple[str, ...]) -> Path:
    """A part's folder: inside a pipeline folder, or ``path`` itself.

    Args:
        path: Pipeline folder, the part's own folder, or a file of weights.
        names: What the part's folder may be called.

    Returns:
        Where the part's weights are.

    Raises:
        CheckpointError: They are in none of these places.
    """
    for name in names:
        if has_weights(path / name):
            return path / name
    if path.is_file() or has_weights(path):
        return path
    raise CheckpointError(
        f"{path}: expected a pipeline folder with weights in {' or '.join(f'{name}/' for name in names)}, or the "
        f"folder of that part alone; found {'neither' if path.is_dir() else 'nothing'}"
    )


def open_unet(path: Path, files: OpenFiles | None = None) -> dict[str, LazyTensor]:
    """Tensors of a UNet by our names.

    Args:
        path: Pipeline folder, UNet folder, or a file such as Apple's ``unet.pt``.
        files: Keeps the files open while they are used; None = one at a time.

    Returns:
        Name -> tensor, in the order of the files.

    Raises:
        CheckpointError: There are none, or they are damaged.
    """
    return UNET.rename(open_weights(part_folder(path, UNET_FOLDERS), files))


def open_autoencoder(path: Path, files: OpenFiles | None = None) -> dict[str, LazyTensor]:
    """Tensors of an autoencoder by our names, whatever diffusers called them.

    Args:
        path: Pipeline folder or autoencoder folder.
        files: Keeps the files open while they are used; None = one at a time.

    Returns:
        Name -> tensor, in the order of the files; attention weights that were convolutions are matrices.

    Raises:
        CheckpointError: There are none, or they are damaged.
    """
    tensors = AUTOENCODER.rename(open_weights(part_folder(path, AUTOENCODER_FOLDERS), files))
    return {name: _as_matrix(lazy) if ".attentions." in name else lazy for name, lazy in tensors.items()}


def part_config(path: Path, names: tuple[str, ...]) -> dict[str, Any]:
    """Arguments of a part's class, and its name as ``_class_name``.

    Args:
        path: As for `part_folder`.
        names: As for `part_folder`.

    Returns:
        The config without diffusers' notes.

    Raises:
        CheckpointError: There is no config.
    """
    config = read_json(part_folder(path, names) / CONFIG_FILE)
    return {key: value for key, value in config.items() if key == "_class_name" or not key.startswith("_")}


def scheduler_config(path: Path) -> dict[str, Any]:
    """The noise scheduler's config of a pipeline folder.

    Args:
        path: Pipeline folder.

    Returns:
        With ``_class_name``.

    Raises:
        CheckpointError: There is none, or it names no class.
    """
    file = path / SCHEDULER_FOLDER / SCHEDULER_FILE
    config = read_json(file)
    if not isinstance(config.get("_class_name"), str):
        raise CheckpointError(f"{file}: expected the scheduler's class under _class_name, found none")
    return config


def widened_unet(tensors: LazyTensors, in_channels: int) -> dict[str, LazyTensor]:
    """A UNet with more input channels: new ones start at zero, all else is kept (`models.unet.widen_conv_in`).

    Args:
        tensors: Of a UNet.
        in_channels: Channels it has afterwards.

    Returns:
        The same tensors where it has as many (or more: that is for `check_fit` to say).
    """
    conv_in = tensors.get(CONV_IN)
    if conv_in is None or len(conv_in.shape) != 4 or conv_in.shape[1] >= in_channels:
        return dict(tensors)
    out_channels, old, height, width = conv_in.shape

    def widen(weight: Tensor) -> Tensor:
        return torch.cat([weight, weight.new_zeros(out_channels, in_channels - old, height, width)], dim=1)

    return {**tensors, CONV_IN: conv_in.changed((out_channels, in_channels, height, width), widen)}


def _as_matrix(lazy: LazyTensor) -> LazyTensor:
    """``(O, I, 1, 1)`` -> ``(O, I)``: Stable Diffusion's first files have attention as 1x1 convolutions."""
    if len(lazy.shape) != 4 or lazy.shape[2:] != (1, 1):
        return lazy
    return lazy.changed(lazy.shape[:2], lambda weight: weight[:, :, 0, 0])
