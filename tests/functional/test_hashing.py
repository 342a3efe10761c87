from __future__ import annotations

import hashlib

import pytest
import torch

from mgie_lit.functional.hashing import tensors_hash


def test_closed_form() -> None:
    weights = {"b": torch.tensor([1.0, -2.0]), "a": torch.tensor(3, dtype=torch.int16)}
    text = b"a torch.int16 ()\n" + b"\x03\x00" + b"b torch.float32 (2,)\n" + b"\x00\x00\x80\x3f\x00\x00\x00\xc0"
    assert tensors_hash(weights) == hashlib.sha256(text).hexdigest()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.int64, torch.bool])
def test_strides_do_not_count(dtype: torch.dtype) -> None:
    tensor = torch.arange(6).view(2, 3).to(dtype)
    assert tensors_hash({"a": tensor.T}) == tensors_hash({"a": tensor.T.contiguous()})


def test_names_types_shapes_and_values_count() -> None:
    plain = torch.arange(4.0)
    others = [{"b": plain}, {"a": plain.double()}, {"a": plain.view(2, 2)}, {"a": plain + 1}, {"a": plain, "b": plain}]
    assert len({tensors_hash(other) for other in [{"a": plain}, *others]}) == 6
