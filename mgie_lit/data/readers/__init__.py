"""Readers, one file a data set; each gives ``EditExample`` rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from mgie_lit.types import EditExample


@runtime_checkable
class EditDataset(Protocol):
    """What every reader is: a map from an index to an example, with an id that needs no image."""

    def __len__(self) -> int:
        """Number of examples."""
        ...

    def __getitem__(self, index: int) -> EditExample:
        """The example at ``index`` in ``[0, len)``; the same one at every call."""
        ...

    def sample_id(self, index: int) -> str:
        """Id of the example at ``index``: unique within the data set and safe as a file name."""
        ...
