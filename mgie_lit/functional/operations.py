"""How many operations a computation takes, counted while it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry


def operations(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any], result: Any) -> int:  # noqa: ANN401
    """Floating-point operations of one call of an operator; a multiply-add counts as two.

    Args:
        func: The operator, as a dispatch mode is given it.
        args: Of the call.
        kwargs: Of the call.
        result: What it gave.

    Returns:
        0 for all but matrix products, convolutions and attention's fused kernels on GPUs.
    """
    count = flop_registry.get(func._overloadpacket)
    return 0 if count is None else int(count(*args, **kwargs, out_val=result))


class OperationCount(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts what runs inside it, backward passes too, and changes nothing.

    >>> import torch
    >>> with OperationCount() as count:
    ...     product = torch.ones(2, 3) @ torch.ones(3, 4)
    >>> count.total
    48
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.total = 0

    def __torch_dispatch__(
        self,
        func: Any,  # noqa: ANN401
        types: Any,  # noqa: ANN401
        args: Sequence[Any] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:  # noqa: ANN401
        """Run and count one operator."""
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.total += operations(func, args, kwargs, result)
        return result
