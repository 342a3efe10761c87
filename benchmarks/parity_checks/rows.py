"""Rows of the table: what was compared, how far apart, within which tolerance."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from parity_checks.bundle import BundleError, NotRecorded

TOLERANCE = 1e-4  # relative; the recording's own noise is 3e-6, typical mistakes move an output by 0.25 and more
EXACT = 0.0

Status = Literal["ok", "failed", "absent"]


@dataclass(frozen=True)
class Row:
    """One check."""

    group: str  # what belongs together in the table
    check: str
    status: Status
    difference: float | None = None  # largest absolute difference over largest absolute recorded value
    tolerance: float | None = None
    note: str = ""


@dataclass
class Table:
    """Collects rows; a number that was not recorded gives a row that is absent."""

    rows: list[Row] = field(default_factory=list)

    def absent(self, group: str, check: str, why: str) -> None:
        """Nothing to compare with."""
        self.rows.append(Row(group, check, "absent", note=why))

    def fail(self, group: str, check: str, why: str) -> None:
        """What broke; the row has the first line of its message."""
        self.rows.append(Row(group, check, "failed", math.inf, EXACT, (why.strip().splitlines() or [""])[0]))

    def compare(
        self,
        group: str,
        check: str,
        ours: Tensor | float | Sequence[float] | None,
        recorded: Tensor | float | Sequence[float] | None,
        *,
        tolerance: float = TOLERANCE,
        note: str = "",
    ) -> None:
        """Numbers of any shape.

        Args:
            group: Of the table.
            check: What is compared.
            ours: What we compute; None = our side has none, a failure.
            recorded: What the released code gave; None = not recorded.
            tolerance: Largest relative difference that is ok.
            note: Beside the numbers.
        """
        if recorded is None:
            self.absent(group, check, note or "not recorded")
            return
        if ours is None:
            self.rows.append(Row(group, check, "failed", math.inf, tolerance, note or "we compute none"))
            return
        theirs, mine = _numbers(recorded), _numbers(ours)
        if theirs.shape != mine.shape:
            shapes = f"recorded shape {tuple(theirs.shape)}, ours {tuple(mine.shape)}"
            self.rows.append(Row(group, check, "failed", math.inf, tolerance, shapes))
            return
        self.judge(group, check, relative_difference(mine, theirs), tolerance, note)

    def exact(self, group: str, check: str, ours: object, recorded: object, *, note: str = "") -> None:
        """Ids, positions, names: equal or not.

        Args:
            group: Of the table.
            check: What is compared.
            ours: A list of numbers, or anything that can be compared.
            recorded: The same; None = not recorded.
            note: Beside the result.
        """
        if recorded is None:
            self.absent(group, check, note or "not recorded")
        elif ours == recorded:
            self.rows.append(Row(group, check, "ok", 0.0, EXACT, note))
        else:
            self.rows.append(Row(group, check, "failed", 1.0, EXACT, first_difference(ours, recorded)))

    def none_of(self, group: str, check: str, wrong: Sequence[str], *, note: str) -> None:
        """What should be all right; the row names what is not.

        Args:
            group: Of the table.
            check: What was looked at.
            wrong: Names; none is well.
            note: Where none is wrong.
        """
        if not wrong:
            self.rows.append(Row(group, check, "ok", 0.0, EXACT, note))
        else:
            names = ", ".join(wrong[:3]) + (", ..." if len(wrong) > 3 else "")
            self.rows.append(Row(group, check, "failed", float(len(wrong)), EXACT, f"{len(wrong)} wrong: {names}"))

    @contextmanager
    def guard(self, group: str, check: str) -> Iterator[None]:
        """A group of checks of which one that can not be made, or breaks, does not end the others.

        Args:
            group: Of the table.
            check: What is checked here, for the row that says that it was not, or that it broke.

        Yields:
            Nothing.
        """
        try:
            yield
        except NotRecorded as missing:
            self.absent(group, check, str(missing))
        except BundleError as damage:
            self.fail(group, check, str(damage))
        except Exception as error:
            if os.environ.get("MGIE_DEBUG") == "1":
                raise
            self.fail(group, check, f"{type(error).__name__}: {error}")

    def judge(self, group: str, check: str, difference: float, tolerance: float = TOLERANCE, note: str = "") -> None:
        """A difference that is known already."""
        status: Status = "ok" if difference <= tolerance else "failed"  # NaN fails
        self.rows.append(Row(group, check, status, difference, tolerance, note))

    def count(self, status: Status) -> int:
        """How many rows are so."""
        return sum(row.status == status for row in self.rows)

    def summary(self) -> str:
        """The last line of the program."""
        return ", ".join(f"{self.count(status)} {status}" for status in ("ok", "failed", "absent"))


def relative_difference(ours: Tensor, recorded: Tensor) -> float:
    """Largest absolute difference over largest absolute recorded value; NaN only agrees with NaN.

    >>> relative_difference(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    0.5
    """
    if recorded.numel() == 0:
        return 0.0
    if not torch.equal(ours.isnan(), recorded.isnan()):
        return math.inf
    ours, recorded = ours.nan_to_num(0.0), recorded.nan_to_num(0.0)
    largest, difference = float(recorded.abs().max()), float((ours - recorded).abs().max())
    if difference == 0.0:
        return 0.0
    return difference / largest if largest else math.inf


def first_difference(ours: object, recorded: object) -> str:
    """Where two lists begin to differ, or both values.

    >>> first_difference([1, 2, 3], [1, 5, 3])
    'at 1: recorded 5, ours 2'
    """
    if not (isinstance(ours, list) and isinstance(recorded, list)):
        return f"recorded {recorded}, ours {ours}"
    if len(ours) != len(recorded):
        begins = next((i for i, (a, b) in enumerate(zip(ours, recorded, strict=False)) if a != b), "the end")
        return f"recorded {len(recorded)} values, ours {len(ours)}; they part at {begins}"
    for index, (a, b) in enumerate(zip(ours, recorded, strict=True)):
        if a != b:
            inner = first_difference(a, b)
            return f"at {index}: {inner}"
    return "equal"


def render(rows: Sequence[Row]) -> str:
    """The rows as a plain table, grouped."""
    width = max((len(row.check) for row in rows), default=0)
    lines = [f"{'check':<{width}}  {'difference':>10}  {'tolerance':>9}  status  note"]
    group = None
    for row in rows:
        if row.group != group:
            lines += ["", f"{row.group}"]
            group = row.group
        line = (
            f"{row.check:<{width}}  {_cell(row.difference):>10}  {_cell(row.tolerance):>9}  {row.status:<6}  {row.note}"
        )
        lines.append(line.rstrip())
    return "\n".join(lines)


def _cell(value: float | None) -> str:
    if value is None:
        return "-"
    return "exact" if value == 0 else f"{value:.1e}"


def _numbers(value: Tensor | float | Sequence[float]) -> Tensor:
    return torch.as_tensor(value).detach().double()


def slice_starts(hidden: Tensor, slices: Tensor) -> list[int]:
    """Where the slices were taken from.

    Args:
        hidden: ``(B, S, D)``.
        slices: ``(B, V, D)``, copies of neighbouring rows of it.

    Returns:
        First position of each sample, or -1 where there is none.
    """
    windows = hidden.unfold(1, slices.shape[1], 1).transpose(2, 3)  # (B, S - V + 1, V, D)
    is_here = (windows == slices[:, None]).flatten(2).all(2)  # (B, S - V + 1)
    return [int(row.nonzero()[0]) if row.any() else -1 for row in is_here]
