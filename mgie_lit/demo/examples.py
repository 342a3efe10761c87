"""Examples of the page: photographs that scientific packages bring along, which ``tiny`` was not trained on."""

from __future__ import annotations

import shutil
from pathlib import Path

from mgie_lit.data.photo_edits.photographs import bundled

_INSTRUCTIONS = {
    "flower": "make it black and white",
    "coffee": "make the colors warmer",
    "rocket": "make it brighter",
    "grace_hopper": "invert the colors",
}


def example_edits(folder: Path) -> list[tuple[Path, str]]:
    """Photographs with an instruction each.

    Args:
        folder: They are copied into it, so that nothing else need be readable by the page.

    Returns:
        Path and instruction, one for each test photograph.
    """
    folder.mkdir(exist_ok=True)
    photographs = {photograph.name: photograph.path for photograph in bundled("test")}
    copies = {name: Path(shutil.copyfile(path, folder / path.name)) for name, path in photographs.items()}
    return [(path, _INSTRUCTIONS[name]) for name, path in copies.items()]
