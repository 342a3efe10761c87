"""What a step still owes when its checkpoint is written: its row in the table, and the validation that follows it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import lightning
import torch

from mgie_lit.training.csv_logger import CSVLogger

OWED_KEY = "mgie_owed"  # in a checkpoint: an `Owed` as plain values


class Owed:
    """Work of a step that comes after its checkpoint.

    The checkpoint comes first, so that a validation that fails or is killed costs no training step. A run that was
    killed in between does the rest when it is resumed, and ends with the table of one that was not.

    Args:
        step: That of the rows in the table, one less than the number of optimizer steps.
        row: What the training step logs, with its epoch; None = nothing at this step.
        validates: A validation follows.
        known: Values that callbacks know from before, such as those of the last validation.
    """

    def __init__(
        self, step: int, row: Mapping[str, float] | None, *, validates: bool, known: Mapping[str, float] | None = None
    ) -> None:
        self.step = step
        self.row = None if row is None else dict(row)
        self.validates = validates
        self.known = dict(known or {})

    @classmethod
    def of(cls, trainer: lightning.Trainer) -> Self:
        """What follows when all callbacks have seen the end of a training step."""
        loop, connector, fetcher = (
            trainer.fit_loop.epoch_loop,
            trainer._logger_connector,
            trainer.fit_loop._data_fetcher,
        )
        known = {name: _number(value) for name, value in trainer.callback_metrics.items()}
        if fetcher is None or trainer.validating:  # outside a training; saved when the validation has ended
            return cls(loop._batches_that_stepped, None, validates=False, known=known)
        row = None
        if connector.should_update_logs:
            row = {name: _number(value) for name, value in connector.metrics["log"].items()}
            row["epoch"] = trainer.current_epoch
        return cls(loop._batches_that_stepped, row, validates=loop._should_check_val_fx(fetcher), known=known)

    @classmethod
    def read(cls, checkpoint: Mapping[str, Any]) -> Self | None:
        """What the checkpoint's step owed; None in a checkpoint that does not say."""
        record = checkpoint.get(OWED_KEY)
        return None if record is None else cls(**record)

    def as_record(self) -> dict[str, Any]:
        """Plain values for a checkpoint."""
        return {"step": self.step, "row": self.row, "validates": self.validates, "known": self.known}

    def still(self, rows: Sequence[Mapping[str, str]]) -> Self:
        """What is left where a table holds these rows.

        Args:
            rows: Of ``metrics.csv``; later ones than this step's have been cut.

        Returns:
            The rest; values of a validation that has taken place are known.
        """
        logged = {name: value for row in rows if int(row["step"]) == self.step for name, value in row.items()}
        row = None if any(name.startswith("train/") for name in logged) else self.row
        validated = {name: float(value) for name, value in logged.items() if name.startswith("val/")}
        return type(self)(self.step, row, validates=self.validates and not validated, known=self.known | validated)

    def __bool__(self) -> bool:
        return self.row is not None or self.validates


def settle(owed: Owed, trainer: lightning.Trainer) -> None:
    """Do what is owed and has not reached the table; the trainer is as it was when the checkpoint was written.

    Args:
        owed: By the checkpoint's step.
        trainer: Its processes decide together, by the table that the first one keeps.
    """
    tables = [logger for logger in trainer.loggers if isinstance(logger, CSVLogger)]
    left = trainer.strategy.broadcast(owed.still(tables[0].rows).as_record() if tables else owed.as_record())
    known = {name: torch.tensor(value, device=trainer.strategy.root_device) for name, value in left["known"].items()}
    trainer._logger_connector._callback_metrics.update(known)
    if left["row"] is not None:
        trainer._logger_connector.log_metrics(left["row"])
    if left["validates"]:
        loop = trainer.fit_loop.epoch_loop.val_loop
        loop.restarting = False
        trainer.validating = True
        loop.run()
        trainer.training = True


def _number(value: Any) -> float:  # noqa: ANN401 - a number or a tensor of one
    return float(value.item()) if isinstance(value, torch.Tensor) else float(value)
