"""Readers, one file a data set; each gives ``EditExample`` rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from mgie_lit.types import EditExample

SPLITS = ("train", "val", "test")


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


@runtime_checkable
class KnowsExpressive(Protocol):
    """A reader whose examples may lack expressive instructions, and that knows so without opening an image."""

    def missing_expressive(self) -> tuple[int, list[str]]:
        """How many examples have no expressive instruction, and the ids of the first few."""
        ...


@runtime_checkable
class KnowsSizes(Protocol):
    """A reader that can tell the sizes of its pictures without decoding them."""

    def source_sizes(self) -> np.ndarray:
        """``(len, 2)`` integers: width and height in pixels of each example's source."""
        ...


@runtime_checkable
class KnowsLengths(Protocol):
    """A reader that can tell how long its examples' words are without opening an image."""

    def text_lengths(self) -> np.ndarray:
        """``(len, 2)`` integers: characters of each example's instruction and expressive instruction, 0 = none."""
        ...


@runtime_checkable
class KnowsSplits(Protocol):
    """A reader whose splits may be the same rows, and that knows so without opening an image."""

    def shared_splits(self) -> tuple[str, ...]:
        """Splits that share their rows, this one among them; empty where no two do."""
        ...


def has_expressive(dataset: EditDataset) -> bool:
    """Whether every example has an expressive instruction; readers that do not know are taken at their word."""
    return not isinstance(dataset, KnowsExpressive) or dataset.missing_expressive()[0] == 0


def shared_splits(dataset: EditDataset) -> tuple[str, ...]:
    """Splits that share rows with the data set's own; readers that do not know are taken at their word."""
    return dataset.shared_splits() if isinstance(dataset, KnowsSplits) else ()


def require_expressive(dataset: EditDataset, split: str) -> None:
    """Stop before the first step of a training that needs expressive instructions.

    Args:
        dataset: Any reader; nothing is opened.
        split: Its name, for the message.

    Raises:
        ConfigError: Examples have none; the message says how to make them.
    """
    count, ids = dataset.missing_expressive() if isinstance(dataset, KnowsExpressive) else (0, [])
    if not count:
        return
    what = "none has one" if count == len(dataset) else f"{count} have none ({listing(ids, count)})"
    raise ConfigError(
        f"data.expressive: expected an expressive instruction for each of the {len(dataset)} {split} examples, "
        f"but {what}; make them with `mgie prepare expressive` and give its file as data.expressive=<file>, or train "
        "on the raw words with data.expressive=instruction"
    )


def no_sizes(what: str) -> ConfigError:
    """The error of a reader that does not know sizes."""
    return ConfigError(
        f"data.max_aspect: expected data that know the sizes of their pictures, got {what}; use data.max_aspect=null"
    )


def no_lengths(what: str) -> ConfigError:
    """The error of a reader that does not know lengths."""
    return ConfigError(
        "data.length_buckets: expected data that know the lengths of their words without opening images, got "
        f"{what}; use data.length_buckets=null"
    )


def listing(names: list[str], count: int) -> str:
    """A few names out of ``count``, for a message.

    >>> listing(["a", "b"], 7)
    'a, b, ...'
    """
    return ", ".join(names) + (", ..." if count > len(names) else "")
