"""The networks whose features LPIPS compares: AlexNet and VGG16, without their classifiers, and LPIPS' own heads."""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.functional.perceptual import scale_pixels

if TYPE_CHECKING:
    from collections.abc import Mapping

KEY = "encoders.lpips"
NETS = ("alex", "vgg")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin")
SMALLEST_SIDE = {"alex": 31, "vgg": 16}  # pixels; smaller images have no last layer
PUBLISHED = {
    "alex": "https://download.pytorch.org/models/alexnet-owt-7be5be79.pth",
    "vgg": "https://download.pytorch.org/models/vgg16-397923af.pth",
}
# Widths, with "P" for a pooling and "L" behind the layers that are compared. Krizhevsky 2014 (arXiv:1404.5997);
# Simonyan and Zisserman 2014 (arXiv:1409.1556), configuration D.
_VGG = (64, 64, "L", "P", 128, 128, "L", "P", 256, 256, 256, "L", "P", 512, 512, 512, "L", "P", 512, 512, 512, "L")
_LOAD_ERRORS = (OSError, ValueError, RuntimeError, EOFError, SafetensorError, UnpicklingError)


class Backbone(nn.Module):
    """The convolutions of a network, up to the last layer that LPIPS reads.

    The layers are numbered as in the published weights: ``features.<n>.weight`` and ``.bias``.

    Args:
        net: ``alex`` or ``vgg``.
    """

    def __init__(self, net: str) -> None:
        super().__init__()
        layers, self.taps = _alexnet() if net == "alex" else _vgg()
        self.features = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> list[Tensor]:
        """``(B, 3, H, W)`` in [0, 1] -> five layers after their ReLU, ``(B, C, h, w)`` each."""
        states, read = scale_pixels(images), []
        for index, layer in enumerate(self.features):
            states = layer(states)
            if index in self.taps:
                read.append(states)
        return read


@lru_cache(maxsize=2)
def load_backbone(net: str, source: str | None) -> Backbone:
    """A backbone with published weights.

    Args:
        net: ``alex`` or ``vgg``.
        source: File of tensors ``features.<n>.weight`` and ``.bias`` as torchvision publishes them (others are passed
            over), as ``.safetensors`` or as a state dict of ``torch.save``; or a folder with one such file.

    Returns:
        In eval mode, on the CPU.

    Raises:
        ConfigError: ``net`` is unknown, or no source is given.
        CheckpointError: There is no such file, or its tensors do not fit.
    """
    if net not in NETS:
        raise ConfigError(f"lpips.net: expected one of {', '.join(NETS)}, got {net!r}")
    if source is None:
        raise ConfigError(
            f"{KEY}: expected a file or folder with the ImageNet weights of {net}, got nothing; {_remedy(net)}"
        )
    path = _find_file(Path(source).expanduser(), net)
    try:
        tensors = load_file(path) if path.suffix == ".safetensors" else torch.load(path, "cpu", weights_only=True)
    except _LOAD_ERRORS as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise CheckpointError(f"{KEY}: {path} can not be loaded: {reason}; {_remedy(net)}") from error
    backbone = Backbone(net)
    _check_tensors(tensors, backbone, path, net)
    wanted = backbone.state_dict()
    backbone.load_state_dict({name: tensors[name].float() for name in wanted})
    return backbone.eval().requires_grad_(False)


def load_heads(net: str) -> list[Tensor]:
    """LPIPS' learnt weights of the five layers, version 0.1, which the installed torchmetrics brings along.

    Args:
        net: ``alex`` or ``vgg``.

    Returns:
        A layer each ``(C,)`` float32.

    Raises:
        CheckpointError: This version of torchmetrics has them no more.
    """
    file = Path(str(files("torchmetrics"))) / "functional" / "image" / "lpips_models" / f"{net}.pth"
    try:
        tensors = torch.load(file, "cpu", weights_only=True)
        return [tensors[f"lin{index}.model.1.weight"].flatten() for index in range(5)]
    except (*_LOAD_ERRORS, KeyError) as error:
        raise CheckpointError(
            f"lpips: expected the heads of {net} in {file}, can not load them ({error!r}); "
            "install torchmetrics 1.4 to 1.9"
        ) from error


def _alexnet() -> tuple[list[nn.Module], tuple[int, ...]]:
    layers: list[nn.Module] = [nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    layers += [nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)]
    for before, after in ((192, 384), (384, 256), (256, 256)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU()]
    return layers, (1, 4, 7, 9, 11)


def _vgg() -> tuple[list[nn.Module], tuple[int, ...]]:
    layers: list[nn.Module] = []
    taps: list[int] = []
    width = 3
    for entry in _VGG:
        if isinstance(entry, int):
            layers += [nn.Conv2d(width, entry, 3, padding=1), nn.ReLU()]
            width = entry
        elif entry == "P":
            layers.append(nn.MaxPool2d(2, 2))
        else:
            taps.append(len(layers) - 1)
    return layers, tuple(taps)


def _find_file(path: Path, net: str) -> Path:
    found = [path] if path.is_file() else []
    if path.is_dir():
        found = sorted(one for one in path.iterdir() if one.suffix in SUFFIXES and one.is_file())
    if len(found) == 1:
        return found[0]
    got = f"{len(found)} such files in the folder {path}" if path.is_dir() else f"{path}, which is not there"
    raise CheckpointError(
        f"{KEY}: expected one file ({', '.join(SUFFIXES)}) with the weights of {net}, got {got}; {_remedy(net)}"
    )


def _check_tensors(tensors: object, backbone: Backbone, path: Path, net: str) -> None:
    given: Mapping[str, Tensor] = tensors if isinstance(tensors, dict) else {}
    for name, wanted in backbone.state_dict().items():
        shape = tuple(given[name].shape) if isinstance(given.get(name), Tensor) else "none"
        if shape != tuple(wanted.shape):
            raise CheckpointError(
                f"{KEY}: expected {name} of shape {tuple(wanted.shape)} for {net} in {path}, got {shape}; "
                f"{_remedy(net)}"
            )


def _remedy(net: str) -> str:
    name = PUBLISHED[net].rsplit("/", 1)[-1]
    return f"fetch {name} from {PUBLISHED[net]} and give {KEY}=weights/{name}"
