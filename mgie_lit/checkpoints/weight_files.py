"""A folder or file of weights as one mapping of names to tensors, whatever its format."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

from mgie_lit.checkpoints.lazy import LazyTensor, OpenFiles
from mgie_lit.errors import CheckpointError

STEMS = ("model", "pytorch_model", "diffusion_pytorch_model")  # transformers' two, diffusers'
SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")  # the first that is there is read
VARIANTS = ("", ".fp16")  # diffusers; a copy in half precision is read only where there is no other
_NUMBER = r"-(\d+)-of-(\d+)"


def open_weights(path: Path, files: OpenFiles | None = None) -> dict[str, LazyTensor]:
    """All tensors of a folder or file of weights, by name; their numbers stay on disk.

    Reads ``model``, ``pytorch_model`` or ``diffusion_pytorch_model`` with ``.safetensors``, ``.bin`` or ``.pt``, whole
    or in shards, with or without an index; safetensors go first.

    Args:
        path: Folder, or a single file of any name.
        files: Keeps the files open while they are used; None = one at a time.

    Returns:
        Name -> tensor, shard by shard in the order of the files.

    Raises:
        CheckpointError: There are no weights, a shard is missing or damaged, a name is there twice, or the index names
            a tensor that is nowhere; the message lists all of a kind.
    """
    files = files or OpenFiles()
    shards, promised = _find_shards(path)
    tensors: dict[str, LazyTensor] = {}
    twice: list[str] = []
    for shard in shards:
        for name, tensor in files.lazy_tensors(shard).items():
            if name in tensors:
                twice.append(f"{name} ({tensors[name].file.name}, {shard.name})")
            tensors[name] = tensor
    if twice:
        raise CheckpointError(f"{path}: expected every tensor once, got twice: {_listed(twice)}; remove one file")
    lost = [name for name in promised if name not in tensors]
    if lost:
        raise CheckpointError(
            f"{path}: the index names tensors that no shard holds: {_listed(lost)}; the folder is a mix of several, so "
            "get it again"
        )
    return tensors


def has_weights(path: Path) -> bool:
    """Whether a folder holds weights of a known name, whole or not."""
    return path.is_dir() and next(_candidates(path), None) is not None


def _find_shards(path: Path) -> tuple[list[Path], list[str]]:
    """Files in order, and the names that an index promises."""
    if path.is_file():
        return [path], []
    if not path.is_dir():
        raise CheckpointError(f"{path}: expected a folder or file of weights, found nothing")
    found = next(_candidates(path), None)
    if found is None:
        others = sorted(file.name for file in path.iterdir() if file.suffix in SUFFIXES)
        raise CheckpointError(
            f"{path}: expected weights named {', '.join(STEMS)} with {', '.join(SUFFIXES[:3])}, found "
            f"{_listed(others) if others else 'none'}; download the folder's weights, or name the file itself"
        )
    if found.suffix == ".json":
        return _read_index(found)
    if re.search(_NUMBER, found.name):
        return _numbered(found), []
    return [found], []


def _candidates(folder: Path) -> Iterator[Path]:
    """Index, whole file or a numbered shard, best first."""
    names = sorted(file.name for file in folder.iterdir() if file.is_file())
    for variant, suffix, stem in product(VARIANTS, SUFFIXES, STEMS):
        patterns = (
            rf"{stem}{re.escape(suffix)}\.index{re.escape(variant)}\.json",
            rf"{stem}{re.escape(variant)}{re.escape(suffix)}",
            rf"{stem}(?:{re.escape(variant)}{_NUMBER}|{_NUMBER}{re.escape(variant)}){re.escape(suffix)}",
        )
        for pattern in patterns:
            yield from (folder / name for name in names if re.fullmatch(pattern, name))


def _read_index(index: Path) -> tuple[list[Path], list[str]]:
    try:
        weight_map = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        shard_names = sorted(set(weight_map.values()))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{index}: expected a JSON object with weight_map, can not read it ({type(error).__name__}: {error}); get "
            "it again"
        ) from error
    foreign = [name for name in shard_names if not isinstance(name, str) or Path(name).name != name]
    if foreign:
        raise CheckpointError(f"{index}: expected names of files beside it, got {_listed([*map(str, foreign)])}")
    _require_all(index.parent, shard_names, index.name)
    return [index.parent / name for name in shard_names], list(weight_map)


def _numbered(shard: Path) -> list[Path]:
    """All shards of a set that came without an index; their names say how many there are."""
    match = re.search(_NUMBER, shard.name)
    assert match is not None
    width, total = len(match[1]), int(match[2])
    head, tail = shard.name[: match.start()], f"-of-{match[2]}{shard.name[match.end() :]}"
    names = [f"{head}-{number:0{width}d}{tail}" for number in range(1, total + 1)]
    _require_all(shard.parent, names, "their numbers (there is no index)")
    return [shard.parent / name for name in names]


def _require_all(folder: Path, names: list[str], promise: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise CheckpointError(
            f"{folder}: {len(missing)} of {len(names)} shards are missing that {promise} promises: {_listed(missing)}; "
            "finish the download"
        )


def _listed(names: list[str], limit: int = 8) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more
