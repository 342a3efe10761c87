"""``metrics.csv``: one wide table a run, complete after every write, that a resumed run goes on with."""

from __future__ import annotations

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mgie_lit.checkpoints.disk import full_disk_named

FILE_NAME = "metrics.csv"
_KEYS = ("step", "epoch")


class CSVLogger(Logger):
    """Writes every logged metric as a row of ``<run_dir>/metrics.csv``.

    Columns are ``step``, ``epoch`` and the metrics in the order of their first appearance; a cell is empty where a
    metric was not logged. A row is in the file when ``log_metrics`` returns, and on the disk before a checkpoint that
    comes after it. When new columns come up, the table is rewritten and put in place at once. A line that a crash left
    unfinished is dropped.

    Args:
        run_dir: The run's directory; an existing table is continued.
        resume_step: Optimizer steps that the checkpoint had done; later rows of an existing table are cut.
    """

    def __init__(self, run_dir: str | Path, resume_step: int | None = None) -> None:
        super().__init__()
        self.path = Path(run_dir) / FILE_NAME
        self._temporary = self.path.with_suffix(".tmp")
        self.rows: list[dict[str, str]] = []
        self.columns: list[str] = list(_KEYS)
        if self.path.is_file():
            self._read(resume_step)

    @property
    def name(self) -> str:
        """Kind of logger, for Lightning."""
        return "csv"

    @property
    def version(self) -> str:
        """Run directory, for Lightning."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Nothing: the resolved config lies beside the table."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a row."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        row = {"step": str(step), "epoch": "" if epoch is None else str(int(epoch))}
        row |= {key: repr(float(value)) for key, value in values.items()}
        self.rows.append(row)
        new_columns = [key for key in row if key not in self.columns]
        with full_disk_named(self.path):
            if new_columns or not self.path.is_file():
                self.columns += new_columns
                self._rewrite()
            else:
                self._append(row)

    def _append(self, row: dict[str, str]) -> None:
        size = self.path.stat().st_size
        try:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns, restval="").writerow(row)
        except OSError:
            os.truncate(self.path, size)  # no half row
            raise

    @rank_zero_only
    def sync(self) -> None:
        """Wait until every row is on the disk."""
        if self.path.is_file():
            with self.path.open("a") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def _read(self, resume_step: int | None) -> None:
        self._temporary.unlink(missing_ok=True)  # of a run that was killed while it wrote
        self.columns, rows = read_table(self.path)
        self.rows = [row for row in rows if resume_step is None or int(row["step"]) < resume_step]
        self._rewrite()

    def _rewrite(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with self._temporary.open("w", newline="") as file:
                writer = csv.DictWriter(file, self.columns, restval="")
                writer.writeheader()
                writer.writerows(self.rows)
                file.flush()
                os.fsync(file.fileno())
            self._temporary.replace(self.path)
        except OSError:
            self._temporary.unlink(missing_ok=True)
            raise


def read_table(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    """Columns and rows of a ``metrics.csv``; cells that are empty are left out.

    Args:
        path: Of the table; where there is none, it is empty.

    Returns:
        Columns in their order, and rows of column -> cell.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.is_file() else []
    reader = csv.DictReader(line for line in lines if line.endswith("\n"))
    rows = [{key: value for key, value in row.items() if value} for row in reader]
    return list(reader.fieldnames or _KEYS), rows
