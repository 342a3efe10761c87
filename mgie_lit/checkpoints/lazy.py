"""Tensors that stay in their files until they are asked for."""

from __future__ import annotations

import math
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from mgie_lit.checkpoints.torch_files import check_is_weights, read_torch_file
from mgie_lit.errors import CheckpointError

SAFETENSORS = ".safetensors"
REOPEN_BYTES = 2**28  # so much is read of a mapped file before its pages are given back
SAFETENSORS_DTYPES = {  # names in the header of the format
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


@dataclass(frozen=True, slots=True)
class LazyTensor:
    """A tensor that is known by shape and type, and read when ``load`` is called."""

    shape: tuple[int, ...]
    dtype: torch.dtype
    file: Path  # where its numbers are
    name: str  # what it is called there
    load: Callable[[], Tensor]

    @property
    def num_bytes(self) -> int:
        """Size of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize

    def changed(self, shape: tuple[int, ...], change: Callable[[Tensor], Tensor]) -> LazyTensor:
        """The same tensor after ``change``, which keeps the type and gives ``shape``; done when it is loaded."""
        return replace(self, shape=shape, load=lambda: change(self.load()))


LazyTensors = Mapping[str, LazyTensor]  # by name; in the order of their files


class _OpenFile(Protocol):
    is_mapped: bool  # whether opening it again costs nothing

    def names(self) -> list[str]: ...

    def form(self, name: str) -> tuple[tuple[int, ...], torch.dtype]: ...

    def tensor(self, name: str) -> Tensor: ...


class _SafetensorsFile:
    is_mapped = True

    def __init__(self, path: Path) -> None:
        self._path = path
        check_is_weights(path)
        try:
            self._file: Any = safe_open(path, framework="pt")
        except (SafetensorError, OSError) as error:
            raise CheckpointError(
                f"{path}: expected a whole safetensors file, can not read it ({error}); it is damaged, so get it again"
            ) from error

    def names(self) -> list[str]:
        return list(self._file.offset_keys())  # as they lie in the file

    def form(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        part = self._file.get_slice(name)
        if part.get_dtype() not in SAFETENSORS_DTYPES:
            raise CheckpointError(
                f"{self._path}: {name} has type {part.get_dtype()}; expected one of {', '.join(SAFETENSORS_DTYPES)}"
            )
        return tuple(part.get_shape()), SAFETENSORS_DTYPES[part.get_dtype()]

    def tensor(self, name: str) -> Tensor:
        tensor: Tensor = self._file.get_tensor(name)
        return tensor


class _TorchFile:
    def __init__(self, path: Path) -> None:
        self._tensors = read_torch_file(path)
        self.is_mapped = zipfile.is_zipfile(path)

    def names(self) -> list[str]:
        return list(self._tensors)

    def form(self, name: str) -> tuple[tuple[int, ...], torch.dtype]:
        return tuple(self._tensors[name].shape), self._tensors[name].dtype

    def tensor(self, name: str) -> Tensor:
        return self._tensors[name]


class OpenFiles:
    """Weight files of which the last few used stay open, so that no more than these are in memory.

    A tensor that was handed out keeps its file in memory: drop it before the next one is asked for.

    Args:
        limit: Most files open at once; 2 where two sources are read side by side, as base and delta.
    """

    def __init__(self, limit: int = 1) -> None:
        self._limit = limit
        self._open: OrderedDict[Path, _OpenFile] = OrderedDict()
        self._bytes_read: Counter[Path] = Counter()

    def lazy_tensors(self, path: Path) -> dict[str, LazyTensor]:
        """What a file holds, by name; no numbers are read where the format allows that.

        Args:
            path: ``.safetensors``, or PyTorch's ``.bin``, ``.pt``, ``.pth``.

        Returns:
            In the file's order.

        Raises:
            CheckpointError: The file is damaged, holds code, or no named tensors.
        """
        file = self._file(path)
        lazy = {}
        for name in file.names():
            shape, dtype = file.form(name)
            lazy[name] = LazyTensor(shape, dtype, path, name, lambda name=name: self._tensor(path, name))  # type: ignore[misc]
        return lazy

    def close(self) -> None:
        """Let go of all files."""
        self._open.clear()

    def _tensor(self, path: Path, name: str) -> Tensor:
        """A tensor; pages of a mapped file stay in memory as long as it is open, so it is closed now and then."""
        file = self._file(path)
        tensor = file.tensor(name)
        self._bytes_read[path] += tensor.nbytes
        if file.is_mapped and self._bytes_read[path] >= REOPEN_BYTES:
            del self._open[path], self._bytes_read[path]
        return tensor

    def _file(self, path: Path) -> _OpenFile:
        if path in self._open:
            self._open.move_to_end(path)
            return self._open[path]
        while len(self._open) >= self._limit:  # before the next one comes into memory
            self._open.popitem(last=False)
        self._open[path] = _SafetensorsFile(path) if path.suffix == SAFETENSORS else _TorchFile(path)
        return self._open[path]
