"""A loader process that fails or dies: the message names the sample."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch.utils.data import DataLoader

from mgie_lit.data.workers import WatchedDataset, explain_worker
from mgie_lit.errors import DataError, TrainingError

pytestmark = pytest.mark.faults
BAD = 5  # index of the example that brings the process down


class Reader:
    """Ten examples; one of them makes trouble."""

    def __init__(self, trouble: Callable[[], None], folder: Path | None = None) -> None:
        self.trouble = trouble
        self.folder = folder

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> int:
        if index == BAD:
            self.trouble()
        return index

    def sample_id(self, index: int) -> str:
        return f"sample-{index}"


class FileReader(Reader):
    """Knows where its images are."""

    def image_files(self, index: int) -> tuple[Path, ...]:
        assert self.folder is not None
        return (self.folder / f"{index}_0.jpg", self.folder / f"{index}_1.jpg")


def fault(reader: Any, num_workers: int = 2) -> tuple[Exception, Exception]:  # noqa: ANN401
    """What a loader raises, and what the user is told."""
    watched = WatchedDataset(reader, reader, num_workers)
    with pytest.raises(Exception) as raised:  # noqa: PT011
        list(DataLoader(watched, batch_size=2, num_workers=num_workers))
    return raised.value, explain_worker(raised.value, [WatchedDataset(reader, reader, 1), watched])


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_killed_process_names_its_sample_and_files(tmp_path: Path) -> None:
    raised, told = fault(FileReader(die, tmp_path))
    assert isinstance(raised, RuntimeError)
    assert isinstance(told, TrainingError)
    expected = f"the last sample that it began was sample-{BAD} ({tmp_path}/{BAD}_0.jpg, {tmp_path}/{BAD}_1.jpg)."
    assert expected in str(told)
    assert "data.num_workers: a loader process (" in str(told)
    assert "resume=<run dir>" in str(told)


def test_reader_without_files_names_the_id() -> None:
    assert f"the last sample that it began was sample-{BAD}." in str(fault(Reader(die))[1])


def test_any_other_error_is_told_its_sample(tmp_path: Path) -> None:
    def trouble() -> None:
        raise ZeroDivisionError("division")

    raised, told = fault(FileReader(trouble, tmp_path))
    assert told is raised
    assert f"while reading the sample sample-{BAD} ({tmp_path}/{BAD}_0.jpg" in str(raised)


def test_other_errors_pass() -> None:
    for error in (RuntimeError("shapes differ"), DataError("a: b")):
        assert explain_worker(error, []) is error
