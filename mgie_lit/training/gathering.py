"""What all processes of a training know, together."""

from __future__ import annotations

from typing import TypeVar

from torch import distributed

T = TypeVar("T")


def gather(value: T) -> list[T]:
    """The values of all processes, by rank; every process has to call this, and gets the same list.

    Args:
        value: Plain values, tensors on the CPU or images.

    Returns:
        A list with ``value`` alone where there is one process.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[T | None] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values  # type: ignore[return-value]
