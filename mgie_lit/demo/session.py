"""What one user has made so far: edits in order, which one is looked at, and undo."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgie_lit.demo.engine import Job
    from mgie_lit.demo.requests import Edit


@dataclass
class EditSession:
    """Edits of one user; starts empty."""

    max_turns: int
    edits: list[Edit] = field(default_factory=list)
    shown: int = -1  # index of the edit that is looked at; -1 = none
    job: Job[Any] | None = None  # what runs or waits for this user

    @property
    def current(self) -> Edit | None:
        """The edit that is looked at."""
        return self.edits[self.shown] if 0 <= self.shown < len(self.edits) else None

    def add(self, edit: Edit) -> None:
        """Append an edit and look at it; the oldest makes room."""
        self.edits = [*self.edits, edit][-self.max_turns :]
        self.shown = len(self.edits) - 1

    def show(self, index: int) -> None:
        """Look at an edit; an index that is none changes nothing."""
        if 0 <= index < len(self.edits):
            self.shown = index

    def undo(self) -> Edit | None:
        """Take back the last edit.

        Returns:
            The edit that was taken back; the one before is looked at now. None = there was nothing to undo.
        """
        if not self.edits:
            return None
        *self.edits, last = self.edits
        self.shown = len(self.edits) - 1
        return last

    def clear(self) -> None:
        """Forget all edits."""
        self.edits, self.shown = [], -1

    def stop(self) -> None:
        """Stop what runs or waits."""
        if self.job is not None:
            self.job.stop()
