"""PyTorch's pickle-based weight files, opened without running anything that is in them."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from mgie_lit.errors import CheckpointError

READ_ERRORS = (  # what torch's unpickler raises over bytes that are no checkpoint
    OSError,
    RuntimeError,
    EOFError,
    LookupError,
    ValueError,
    TypeError,
    AttributeError,
    ImportError,
    AssertionError,
    OverflowError,
    MemoryError,
    struct.error,
    pickle.UnpicklingError,
    zipfile.BadZipFile,
)
LFS_POINTER = b"version https://git-lfs"
_ZIP_START = b"PK\x03\x04"
_FORBIDDEN_GLOBAL = re.compile(r"GLOBAL ([\w.]+)")  # how torch names what a pickle wanted to import


def read_torch_file(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.bin`` or ``.pt`` file by name, in the file's order, on the CPU.

    Nothing in the file is executed. Since torch 1.6 such a file is a zip archive; its tensors stay on disk until they
    are used. Older files are read whole.

    Args:
        path: The file.

    Returns:
        Name -> tensor, without gradients.

    Raises:
        CheckpointError: The file is damaged, holds code, or holds something else than named tensors.
    """
    check_is_weights(path)
    try:
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        raise CheckpointError(_refusal(path, str(error))) from error
    except READ_ERRORS as error:
        first_line = str(error).strip().split("\n")[0] or type(error).__name__
        raise CheckpointError(
            f"{path}: expected a PyTorch file of tensors, can not read it ({first_line}); it is damaged or something "
            "else, so get it again"
        ) from error
    return _named_tensors(path, content)


def check_is_weights(path: Path) -> None:
    """Whether a file can hold weights at all.

    Args:
        path: The file.

    Raises:
        CheckpointError: It is missing, empty, cut off, or only Git LFS's pointer to the real one.
    """
    try:
        with path.open("rb") as file:
            start = file.read(len(LFS_POINTER))
    except OSError as error:
        raise CheckpointError(f"{path}: expected a file of weights, can not read it ({error.strerror})") from error
    if not start:
        raise CheckpointError(f"{path}: expected a file of weights, got an empty one; get it again")
    if start == LFS_POINTER:
        raise CheckpointError(
            f"{path}: expected a file of weights, got Git LFS's pointer to it; run `git lfs pull` in its repository"
        )
    if start.startswith(_ZIP_START) and not zipfile.is_zipfile(path):
        raise CheckpointError(
            f"{path}: expected a whole PyTorch file, got {path.stat().st_size} bytes of one that is cut off; get it "
            "again"
        )


def _refusal(path: Path, message: str) -> str:
    forbidden = _FORBIDDEN_GLOBAL.search(message)
    if forbidden:
        return (
            f"{path}: refused, because opening it would run `{forbidden[1]}`; expected tensors and nothing else. "
            "Nothing was run. Get the weights as .safetensors, or saved as a dict of tensors by somebody you trust"
        )
    return (
        f"{path}: expected a PyTorch file of tensors, got pickled objects of another kind or a damaged file; nothing "
        "in it was run. Get it again, or get the weights as .safetensors"
    )


def _named_tensors(path: Path, content: object) -> dict[str, Tensor]:
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{path}: expected a dict of tensors, got a {type(content).__name__}")
    others = [f"{name} ({type(value).__name__})" for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        more = f" and {len(others) - 5} more" if len(others) > 5 else ""
        raise CheckpointError(
            f"{path}: expected a dict of tensors and nothing else, got also {', '.join(others[:5])}{more}; save the "
            "tensors alone"
        )
    sparse = [str(name) for name, value in content.items() if value.layout != torch.strided or value.is_quantized]
    if sparse:
        raise CheckpointError(f"{path}: expected plain tensors, got sparse or quantized ones: {', '.join(sparse[:5])}")
    return {str(name): value.detach() for name, value in content.items()}
