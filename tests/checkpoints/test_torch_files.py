from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from mgie_lit.checkpoints.torch_files import read_torch_file
from mgie_lit.errors import CheckpointError

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:Detected pickle protocol")]
TENSORS = {"b": torch.arange(6.0).reshape(2, 3), "a": torch.arange(5)}


class Payload:
    """Makes a file when it is unpickled by an unwary reader."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.mark.parametrize("is_zip", [True, False])
def test_tensors_come_in_order(is_zip: bool, tmp_path: Path) -> None:
    torch.save(TENSORS, tmp_path / "a.bin", _use_new_zipfile_serialization=is_zip)
    tensors = read_torch_file(tmp_path / "a.bin")
    assert list(tensors) == ["b", "a"]
    assert all(torch.equal(tensors[name], TENSORS[name]) for name in TENSORS)


def test_parameters_come_without_gradient(tmp_path: Path) -> None:
    torch.save({"a": nn.Parameter(torch.ones(3))}, tmp_path / "a.pt")
    assert not read_torch_file(tmp_path / "a.pt")["a"].requires_grad


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_malicious_pickle_is_refused_and_not_run(is_zip: bool, tmp_path: Path) -> None:
    target, path = tmp_path / "made_by_payload", tmp_path / "a.bin"
    torch.save({**TENSORS, "c": Payload(target)}, path, _use_new_zipfile_serialization=is_zip)
    with pytest.raises(
        CheckpointError, match=r"a\.bin: refused, because opening it would run `posix\.mkdir`.*safetensors"
    ):
        read_torch_file(path)
    assert not target.exists()
    torch.load(path, weights_only=False)
    assert target.exists(), "the payload is harmless, so this test shows nothing"


def test_a_bare_malicious_pickle_is_refused_and_not_run(tmp_path: Path) -> None:
    target = tmp_path / "made_by_payload"
    (tmp_path / "a.pt").write_bytes(pickle.dumps(Payload(target)))
    with pytest.raises(
        CheckpointError, match="pickled objects of another kind or a damaged file; nothing in it was run"
    ):
        read_torch_file(tmp_path / "a.pt")
    assert not target.exists()


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 3), tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=r"refused.*torch\.nn\.modules\.linear\.Linear"):
        read_torch_file(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([torch.ones(2)], "expected a dict of tensors, got a list"),
        ({"a": torch.ones(2), "step": 3, "by": "me"}, r"got also step \(int\), by \(str\)"),
        ({"a": torch.eye(3).to_sparse()}, "expected plain tensors, got sparse or quantized ones: a"),
        ({str(index): index for index in range(7)}, r"4 \(int\) and 2 more"),
    ],
)
def test_something_else_than_tensors_is_refused(content: object, message: str, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        read_torch_file(tmp_path / "a.pt")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty one"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "git lfs pull"),
        (b"<html>not found</html>", "pickled objects of another kind or a damaged file"),
        (b"PK\x03\x04" + b"0" * 50, "got 54 bytes of one that is cut off"),
    ],
)
def test_damaged_files_are_named(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"a\.bin.*{message}"):
        read_torch_file(tmp_path / "a.bin")


@pytest.mark.parametrize("is_zip", [True, False])
def test_a_cut_file_is_named(is_zip: bool, tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    torch.save({"a": torch.ones(5000)}, path, _use_new_zipfile_serialization=is_zip)
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(CheckpointError, match=r"a\.bin.*(cut off|can not read it)"):
        read_torch_file(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"nowhere\.pt.*No such file"):
        read_torch_file(tmp_path / "nowhere.pt")
