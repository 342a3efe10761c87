"""Where the photographs come from: bundled with scientific packages, or a folder; splits never share one."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mgie_lit.data.photo_edits.draws import SPLITS
from mgie_lit.errors import DataError

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"})
VAL_SHARE, TEST_SHARE = 0.1, 0.2  # of a folder's photographs; the rest trains


@dataclass(frozen=True, slots=True)
class Photograph:
    """One photograph on disk."""

    name: str  # unique within its split; what tables and intervals group by
    path: Path
    weight: float = 1.0  # share of the training crops, relative to the others


@dataclass(frozen=True, slots=True)
class _Bundled:
    """A photograph inside an installed package."""

    file_name: str
    package: str  # as imported
    weight: float = 1.0


_PACKAGE_FOLDERS = {
    "skimage": ("scikit-image", "data"),
    "sklearn": ("scikit-learn", "datasets/images"),
    "matplotlib": ("matplotlib", "mpl-data/sample_data"),
}
_BUNDLED = {
    "train": (
        _Bundled("astronaut.png", "skimage", weight=3.0),
        _Bundled("chelsea.png", "skimage", weight=3.0),
        _Bundled("hubble_deep_field.jpg", "skimage"),
        _Bundled("ihc.png", "skimage"),
        _Bundled("retina.jpg", "skimage"),
        _Bundled("china.jpg", "sklearn", weight=4.0),
    ),
    "val": (_Bundled("motorcycle_left.png", "skimage"),),
    "test": (
        _Bundled("flower.jpg", "sklearn"),
        _Bundled("coffee.png", "skimage"),
        _Bundled("rocket.jpg", "skimage"),
        _Bundled("grace_hopper.jpg", "matplotlib"),
    ),
}


def photographs(split: str, root: str | Path | None = None) -> tuple[Photograph, ...]:
    """Photographs of a split, never empty.

    Args:
        split: ``train``, ``val`` or ``test``.
        root: Folder of the user's photographs; None takes the bundled ones.

    Returns:
        Paths with name and weight; the same at every call.

    Raises:
        DataError: A bundled file is missing, or the folder can not fill every split.
    """
    return bundled(split) if root is None else from_folder(root, split)


def bundled(split: str) -> tuple[Photograph, ...]:
    """Photographs that scikit-image, scikit-learn and matplotlib bring along; nothing is downloaded or imported.

    Args:
        split: ``train``, ``val`` or ``test``.

    Returns:
        6, 1 and 4 photographs; named after their files, without suffix.

    Raises:
        DataError: The package or its file is not there; the message says what to install.
    """
    return tuple(Photograph(Path(entry.file_name).stem, _locate(entry), entry.weight) for entry in _BUNDLED[split])


def from_folder(root: str | Path, split: str) -> tuple[Photograph, ...]:
    """Photographs of a folder and its sub-folders, split by name.

    With sub-folders ``train``, ``val`` and ``test`` these are the splits. Otherwise files are ordered by the hash of
    their relative path; the first 20 % test, the next 10 % validate, at least one each. Adding files can then
    move others to another split: keep sub-folders where splits must stay as they are.

    Args:
        root: The folder; hidden files and folders in it are left out.
        split: ``train``, ``val`` or ``test``.

    Returns:
        At least one photograph, named by its path below ``root``; all have the same weight.

    Raises:
        DataError: The folder is missing, or leaves a split empty.
    """
    root = Path(root)
    if not root.is_dir():
        raise DataError(f"data.root: expected a folder of photographs, got {root}, which is no folder; check the path")
    if all((root / name).is_dir() for name in SPLITS):
        chosen = _image_files(root / split)
        if not chosen:
            raise DataError(f"data.root: no photographs in {root / split}; put at least one there ({_suffix_list()})")
    else:
        chosen = _split_by_hash(root)[split]
    return tuple(Photograph(path.relative_to(root).as_posix(), path) for path in chosen)


def _locate(entry: _Bundled) -> Path:
    """Path of a bundled file, without importing its package."""
    distribution, folder = _PACKAGE_FOLDERS[entry.package]
    spec = find_spec(entry.package)
    if spec is None or not spec.submodule_search_locations:
        raise DataError(
            f"photograph {entry.file_name}: expected the package {distribution}, which is not installed; "
            f"pip install {distribution}, or give your own photographs with data.root=FOLDER"
        )
    path = Path(spec.submodule_search_locations[0]) / folder / entry.file_name
    if not path.is_file():
        raise DataError(
            f"photograph {entry.file_name}: expected it at {path}, where this {distribution} has none; reinstall "
            f"{distribution} from PyPI, or give your own photographs with data.root=FOLDER"
        )
    return path


def _split_by_hash(root: Path) -> dict[str, list[Path]]:
    def digest(path: Path) -> str:
        return hashlib.sha256(path.relative_to(root).as_posix().encode()).hexdigest()

    files = sorted(_image_files(root), key=digest)
    if len(files) < len(SPLITS):
        raise DataError(
            f"data.root: expected at least {len(SPLITS)} photographs in {root} (one a split), got {len(files)}; "
            f"add some ({_suffix_list()})"
        )
    num_test = max(1, round(TEST_SHARE * len(files)))
    num_val = max(1, round(VAL_SHARE * len(files)))
    return {
        "test": files[:num_test],
        "val": files[num_test : num_test + num_val],
        "train": files[num_test + num_val :],
    }


def _image_files(folder: Path) -> list[Path]:
    """Files with an image suffix below ``folder``, sorted; hidden ones are left out."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in IMAGE_SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def _suffix_list() -> str:
    return ", ".join(sorted(IMAGE_SUFFIXES))
