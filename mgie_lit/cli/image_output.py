"""Where edited images go: new files of a known format, complete or not there."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mgie_lit.config.files import publish_new
from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".bmp": "BMP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
}
_LOSSY_OPTIONS = {"JPEG": {"quality": 95, "subsampling": 0}, "WEBP": {"quality": 95}}


def check_output(path: Path, *, option: str = "-o") -> None:
    """Refuse an output before work starts.

    Args:
        path: The image file to make.
        option: The command-line option that names it, for the message.

    Raises:
        ConfigError: The format is unknown, the file exists, or its folder is a file.
    """
    if path.suffix.lower() not in FORMATS:
        raise ConfigError(f"{option}: expected a name that ends in {', '.join(FORMATS)}, got {path}")
    if os.path.lexists(path):
        raise ConfigError(f"{option}: expected a new file, but {path} exists; choose another with {option}")
    folder = next(parent for parent in path.absolute().parents if parent.exists())
    if not folder.is_dir():
        raise ConfigError(f"{option}: expected a folder to write into, but {folder} is a file")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"{option}: expected a folder to write into, but {folder} is not writable")


def save_image(image: Image.Image, path: Path) -> None:
    """Save an RGB image in the format of its suffix; lossy formats keep high quality.

    Args:
        image: What to save.
        path: A new file, as `check_output` accepts it.

    Raises:
        ConfigError: The file came into being meanwhile.
    """
    image_format = FORMATS[path.suffix.lower()]
    try:
        publish_new(path, lambda name: image.save(name, format=image_format, **_LOSSY_OPTIONS.get(image_format, {})))
    except FileExistsError:
        raise ConfigError(f"-o: expected a new file, but {path} exists by now; choose another with -o") from None
