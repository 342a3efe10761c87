"""What a loader process was reading when it died."""

from __future__ import annotations

import os
import re
import signal
from ctypes import c_longlong
from multiprocessing.sharedctypes import RawArray
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from torch.utils.data import Dataset, get_worker_info

from mgie_lit.errors import MGIEError, TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mgie_lit.data.readers import EditDataset

_DEAD_WORKER = re.compile(r"DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\) (.*)", re.DOTALL)


@runtime_checkable
class KnowsImageFiles(Protocol):
    """A reader whose images lie in files of their own."""

    def image_files(self, index: int) -> tuple[Path, ...]:
        """Those of the example at ``index``."""
        ...


class WatchedDataset(Dataset[Any]):
    """A data set that notes, in memory which all processes share, what each loader process has begun to read.

    Args:
        dataset: What examples come from.
        reader: Knows their ids; the same examples at the same indices.
        num_workers: Loader processes.
    """

    def __init__(self, dataset: Dataset[Any], reader: EditDataset, num_workers: int) -> None:
        self.dataset = dataset
        self.reader = reader
        self._notes = RawArray(c_longlong, 2 * num_workers)  # of each process: its id, and index + 1 of the example

    def __len__(self) -> int:
        """Number of examples."""
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401
        """The example at ``index``; an error that no reader raises on purpose is told which one it was."""
        worker = get_worker_info()
        if worker is not None:
            self._notes[2 * worker.id], self._notes[2 * worker.id + 1] = os.getpid(), index + 1
        try:
            return self.dataset[index]
        except MGIEError:
            raise
        except Exception as error:
            error.add_note(f"while reading the sample {self.describe(index)}")
            raise

    def describe(self, index: int) -> str:
        """Id of the example at ``index``, and its files where there are any."""
        files = self.reader.image_files(index) if isinstance(self.reader, KnowsImageFiles) else ()
        name = self.reader.sample_id(index)
        return f"{name} ({', '.join(map(str, files))})" if files else name

    def last_of(self, pid: int) -> str | None:
        """The example that a process has begun last; None where it is not one of this data set's, or had none."""
        for place in range(0, len(self._notes), 2):
            if self._notes[place] == pid and self._notes[place + 1]:
                return self.describe(self._notes[place + 1] - 1)
        return None


def ignore_interrupts(worker_id: int) -> None:
    """Let Ctrl-C, which reaches all processes of a terminal, be a matter of the one that this loader process reads for.

    Args:
        worker_id: Of the loader process that calls this.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def explain_worker(error: Exception, datasets: Iterable[WatchedDataset]) -> Exception:
    """What to tell the user of an error that comes from a loader process.

    Args:
        error: Any error of a training.
        datasets: All that its loaders read.

    Returns:
        A ``TrainingError`` that names the last samples of processes that died, or the error itself.
    """
    found = _DEAD_WORKER.search(str(error)) if isinstance(error, RuntimeError) else None
    if found is None:
        return error
    datasets = list(datasets)
    pids = [int(pid) for pid in found[1].split(",")]
    last = [sample for pid in pids for dataset in datasets if (sample := dataset.last_of(pid))]
    reading = f"; the last sample that it began was {', '.join(last)}" if last else ", before its first sample"
    return TrainingError(
        f"data.num_workers: a loader process ({found[1]}) {found[2].strip().rstrip('.')}{reading}. If the system ended "
        "it for want of memory, lower data.num_workers or data.batch_size; if that file brings it down, repair or "
        "exclude it (`mgie prepare check`, data.exclude). resume=<run dir> goes on from the last checkpoint"
    )
