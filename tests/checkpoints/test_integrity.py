from __future__ import annotations

import logging
import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mgie_lit.checkpoints import integrity
from mgie_lit.checkpoints.integrity import add_digest, is_whole, write_checked
from mgie_lit.checkpoints.runs import find_checkpoint
from mgie_lit.errors import CheckpointError

CONTENT = {"state_dict": {"editor.a": torch.arange(999.0)}, "global_step": 7, "mgie_config": {"seed": 0}}


def test_what_is_written_comes_back_and_its_hash_is_the_system_s(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "a.ckpt"
    write_checked(CONTENT, path)
    assert torch.equal(torch.load(path, weights_only=True)["state_dict"]["editor.a"], torch.arange(999.0))
    assert is_whole(path)
    assert {file.name for file in path.parent.iterdir()} == {"a.ckpt", "a.ckpt.sha256"}
    subprocess.run(["sha256sum", "--check", "a.ckpt.sha256"], cwd=path.parent, check=True, capture_output=True)


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data[:50] + b"x" + data[51:], lambda _: b""])
def test_any_change_is_seen(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checked(CONTENT, path)
    path.write_bytes(spoil(path.read_bytes()))
    assert not is_whole(path)


@pytest.mark.parametrize("spoil", [lambda data: data[:-9], lambda data: data.replace(b"\x00\x00\x80\x3f", b"xxxx", 1)])
def test_a_file_without_a_hash_is_checked_by_the_sums_inside(spoil: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    torch.save(CONTENT, path)
    assert is_whole(path)
    assert not is_whole(tmp_path / "b.ckpt")
    path.write_bytes(spoil(path.read_bytes()))
    assert not is_whole(path)


def test_a_missing_hash_is_added(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checked(CONTENT, path)
    digest = path.with_name("a.ckpt.sha256")
    written = digest.read_text()
    digest.unlink()
    add_digest(path)
    assert digest.read_text() == written


@pytest.mark.parametrize("moment", ["replace", "_write_digest"])
def test_written_over_and_stopped_in_between(moment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of that name was there: whatever lies there then is whole and known to be."""
    path = tmp_path / "a.ckpt"
    write_checked(CONTENT, path)

    def stop(*_: Any) -> None:  # noqa: ANN401
        raise KeyboardInterrupt

    monkeypatch.setattr(Path if moment == "replace" else integrity, moment, stop)
    with pytest.raises(KeyboardInterrupt):
        write_checked({**CONTENT, "global_step": 8}, path)
    monkeypatch.undo()
    assert is_whole(path)
    assert torch.load(path, weights_only=True)["global_step"] == (7 if moment == "replace" else 8)


@pytest.mark.faults
def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.ckpt"
    write_checked(CONTENT, path)

    def full(*_: Any) -> None:  # noqa: ANN401
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(integrity.torch, "save", full)
    with pytest.raises(OSError, match="No space left"):
        write_checked({**CONTENT, "global_step": 8}, path)
    with pytest.raises(OSError, match="No space left"):
        write_checked(CONTENT, tmp_path / "b.ckpt")
    assert is_whole(path)
    assert torch.load(path, weights_only=True)["global_step"] == 7
    assert {file.name for file in tmp_path.iterdir()} == {"a.ckpt", "a.ckpt.sha256"}


def run_with(tmp_path: Path, *steps: int) -> list[Path]:
    files = [tmp_path / "checkpoints" / f"step-{step}.ckpt" for step in steps]
    for file in files:
        write_checked(CONTENT, file)
    return files


@pytest.mark.faults
def test_the_last_whole_one_is_used(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    files = run_with(tmp_path, 1, 2, 3)
    assert find_checkpoint(tmp_path) == files[2]
    files[2].write_bytes(files[2].read_bytes()[:-100])
    with caplog.at_level(logging.WARNING):
        assert find_checkpoint(tmp_path) == files[1]
    assert "step-3.ckpt is damaged" in caplog.text


@pytest.mark.parametrize(("names", "expected"), [(["step-2", "step-10"], "step-10"), (["step-10", "best"], "best")])
def test_the_last_step_whatever_was_copied_last(names: list[str], expected: str, tmp_path: Path) -> None:
    for age, name in enumerate(names):
        file = tmp_path / "checkpoints" / f"{name}.ckpt"
        write_checked(CONTENT, file)
        os.utime(file, (100 - age, 100 - age) if expected.startswith("step") else (age, age))
    assert find_checkpoint(tmp_path).stem == expected


@pytest.mark.faults
def test_none_is_whole(tmp_path: Path) -> None:
    for file in run_with(tmp_path, 1, 2):
        file.write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=r"expected a whole checkpoint, all 2 in checkpoints are damaged: step-2"):
        find_checkpoint(tmp_path)


@pytest.mark.faults
def test_a_damaged_file_that_was_named(tmp_path: Path) -> None:
    (file,) = run_with(tmp_path, 1)
    file.write_bytes(b"cut off")
    with pytest.raises(CheckpointError, match=r"step-1.ckpt: expected the file as it was written.*earlier checkpoint"):
        find_checkpoint(file)
