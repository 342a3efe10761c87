from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch

from mgie_lit.checkpoints.runs import load_checkpoint
from mgie_lit.errors import CheckpointError

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:Detected pickle protocol")]

CONTENT = {"state_dict": {"editor.a": torch.arange(3.0)}, "global_step": 7, "mgie_config": {"seed": 0}}


def saved(content: object) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("a.txt", "text")
    return buffer.getvalue()


def test_a_checkpoint_comes_back(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(saved(CONTENT))
    content = load_checkpoint(tmp_path / "a.ckpt")
    assert (content["global_step"], content["mgie_config"]) == (7, {"seed": 0})
    assert torch.equal(content["state_dict"]["editor.a"], torch.arange(3.0))


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"0",
        b"hello world",
        b"2.",
        b"a: 1\nb: [2]\n",
        b"import os\n",
        b"\x89PNG\r\n\x1a\n",
        b"\xff" * 40,
        b"\x80\x02K\x01.",
        b"}]",
        b"(d.",
        b"s.",
        zipped(),
        saved(CONTENT)[:-30],
        *(bytes([first]) + b"\n." for first in range(256)),
    ],
)
def test_any_other_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    path.write_bytes(content)
    with pytest.raises(
        CheckpointError, match=r"a\.ckpt: expected a checkpoint (of a training run|that `mgie train` wrote)"
    ):
        load_checkpoint(path)


def test_another_program_s_checkpoint(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(saved({"state_dict": {}, "epoch": 1}))
    message = r"that `mgie train` wrote \(state_dict, global_step, mgie_config\), got state_dict, epoch$"
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(tmp_path / "a.ckpt")


def test_pickled_objects_are_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "a.ckpt").write_bytes(saved(CONTENT | {"path": Path("x")}))
    with pytest.raises(
        CheckpointError, match=r"expected a checkpoint of a training run, can not read it: Weights only"
    ):
        load_checkpoint(tmp_path / "a.ckpt")
