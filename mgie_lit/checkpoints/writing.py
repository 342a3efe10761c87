"""safetensors files written tensor by tensor, so that memory holds one of them and not the file.

The format (https://github.com/huggingface/safetensors#format): the header's length in 8 bytes, a JSON header with type,
shape and place of every tensor, and the numbers one after the other. The header is known before a number is read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mgie_lit.checkpoints.json_files import write_json
from mgie_lit.checkpoints.lazy import SAFETENSORS, SAFETENSORS_DTYPES, LazyTensor, LazyTensors

DIFFUSERS_STEM, TRANSFORMERS_STEM = "diffusion_pytorch_model", "model"
MAX_SHARD_BYTES = 5 * 10**9
OnBytes = Callable[[str, int, int], None]  # (what is written, bytes done, bytes in all)
_DTYPE_NAMES = {dtype: name for name, dtype in SAFETENSORS_DTYPES.items()}
_ALIGNMENT = 8  # bytes; the header is padded so that the numbers begin at a multiple


def write_weights(
    folder: Path,
    tensors: LazyTensors,
    *,
    stem: str = DIFFUSERS_STEM,
    max_shard_bytes: int = MAX_SHARD_BYTES,
    on_bytes: OnBytes | None = None,
) -> None:
    """Write tensors as one safetensors file, or as shards with an index as diffusers and transformers read them.

    Args:
        folder: Made if it is missing.
        tensors: By name; written in their order, so that their own files are read one after the other.
        stem: Of the files' names.
        max_shard_bytes: Largest file; a single larger tensor has one for itself.
        on_bytes: Told after every tensor; the name is the folder's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    total = sum(lazy.num_bytes for lazy in tensors.values())
    done = 0

    def on_tensor(num_bytes: int) -> None:
        nonlocal done
        done += num_bytes
        if on_bytes is not None:
            on_bytes(folder.name, done, total)

    shards = _split(tensors, max_shard_bytes)
    names = [_shard_name(stem, number, len(shards)) for number in range(1, len(shards) + 1)]
    for name, shard in zip(names, shards, strict=True):
        write_safetensors(folder / name, shard, on_tensor=on_tensor)
    if len(shards) > 1:
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        write_json(folder / f"{stem}{SAFETENSORS}.index.json", index)


def write_safetensors(path: Path, tensors: LazyTensors, *, on_tensor: Callable[[int], None] | None = None) -> None:
    """Write one safetensors file; each tensor is loaded, written and dropped.

    Args:
        path: The new file.
        tensors: By name.
        on_tensor: Told the bytes of every tensor after it was written.
    """
    # wide types first: then every tensor lies at a multiple of its type's width
    ordered = dict(sorted(tensors.items(), key=lambda item: -item[1].dtype.itemsize))
    with path.open("wb") as file:
        file.write(_header(ordered))
        for name, lazy in ordered.items():
            file.write(_bytes_of(name, lazy))
            if on_tensor is not None:
                on_tensor(lazy.num_bytes)


def _header(tensors: LazyTensors) -> bytes:
    content: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name, lazy in tensors.items():
        end = begin + lazy.num_bytes
        content[name] = {"dtype": _DTYPE_NAMES[lazy.dtype], "shape": lazy.shape, "data_offsets": [begin, end]}
        begin = end
    text = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % _ALIGNMENT)
    return struct.pack("<Q", len(text)) + text


def _bytes_of(name: str, lazy: LazyTensor) -> Any:  # noqa: ANN401 - a buffer over the tensor's own memory
    tensor: Tensor = lazy.load()
    assert (tuple(tensor.shape), tensor.dtype) == (lazy.shape, lazy.dtype), f"{name} is not what it was said to be"
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data


def _split(tensors: LazyTensors, max_bytes: int) -> list[dict[str, LazyTensor]]:
    """Tensors in files of at most ``max_bytes``, in order; at least one file."""
    shards: list[dict[str, LazyTensor]] = [{}]
    size = 0
    for name, lazy in tensors.items():
        if shards[-1] and size + lazy.num_bytes > max_bytes:
            shards.append({})
            size = 0
        shards[-1][name] = lazy
        size += lazy.num_bytes
    return shards


def _shard_name(stem: str, number: int, total: int) -> str:
    return f"{stem}{SAFETENSORS}" if total == 1 else f"{stem}-{number:05d}-of-{total:05d}{SAFETENSORS}"


def lazy_of(tensors: Mapping[str, Tensor], file: Path) -> dict[str, LazyTensor]:
    """Tensors that are in memory already, in the shape that writers take.

    Args:
        tensors: By name, e.g. a state dict.
        file: Where they come from, for messages.

    Returns:
        The same tensors on the CPU.
    """
    return {
        name: LazyTensor(tuple(value.shape), value.dtype, file, name, lambda value=value: value.detach().cpu())  # type: ignore[misc]
        for name, value in tensors.items()
    }
