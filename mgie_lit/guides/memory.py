"""What a guide need not make twice: the different images of a batch, and what was made of images before."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

from torch.optim.optimizer import register_optimizer_step_post_hook

from mgie_lit.functional.hashing import tensors_hash

if TYPE_CHECKING:
    from torch import Tensor, nn

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a batch, each different one once."""

    pixels: Tensor | None  # (U, 3, P, P) for the vision tower; None for a guide without eyes, to which all are alike
    keys: list[str]  # U hashes of the pixels
    of_row: list[int]  # which of them each row of the batch shows

    @classmethod
    def of(cls, pixels: Tensor | None, num_rows: int) -> Self:
        """Find the images that are alike.

        Args:
            pixels: ``(B, 3, P, P)``, or None.
            num_rows: ``B``.

        Returns:
            The different ones, in the order in which they come up.
        """
        if pixels is None:
            return cls(None, [""], [0] * num_rows)
        keys = [tensors_hash({"pixels": image}) for image in pixels]
        different = list(dict.fromkeys(keys))
        return cls(pixels[[keys.index(key) for key in different]], different, [different.index(key) for key in keys])


class ImageMemory:
    """Keeps what was made of the last images, for further instructions on them; off unless a guide is given one.

    An entry holds as long as the weights do: all are forgotten once a parameter was changed in place, loaded, moved or
    given another type, or any optimizer has made a step. Only what writes into ``parameter.data`` by hand is not seen,
    and has to call ``forget``.

    Args:
        max_entries: Most images, at least 1; the one that was not used for longest goes first. At LLaVA-7B one takes
            some 150 MB with ``image_first``, else half a megabyte.
    """

    def __init__(self, max_entries: int = 8) -> None:
        if max_entries < 1:
            raise ValueError(f"max_entries: expected at least 1, got {max_entries}")
        self.max_entries = max_entries
        self._entries: dict[Hashable, Any] = {}
        self._weights: list[object] = []
        _optimizer_steps()

    def forget(self) -> None:
        """Drop everything."""
        self._entries.clear()

    def check(self, model: nn.Module) -> None:
        """Forget what other weights made."""
        weights = [*_optimizer_steps(), *(_state(tensor) for tensor in model.parameters())]
        if weights != self._weights:
            self.forget()
            self._weights = weights

    def recall(self, keys: Sequence[Hashable], make: Callable[[list[int]], Sequence[_Value]]) -> list[_Value]:
        """Values of keys, from before or made now.

        Args:
            keys: Say all that the values depend on but the weights.
            make: Places in ``keys`` -> their values; called once, for those that are missing.

        Returns:
            One value for each key.
        """
        found = {key: self._entries.pop(key) for key in keys if key in self._entries}
        missing = [place for place, key in enumerate(keys) if key not in found]
        if missing:
            found.update(zip([keys[place] for place in missing], make(missing), strict=True))
        self._entries.update(found)  # the ones used last stand last
        for key in list(self._entries)[: -self.max_entries]:
            del self._entries[key]
        return [cast("_Value", found[key]) for key in keys]


@cache
def _optimizer_steps() -> list[int]:
    """Steps that the optimizers of this process have made since the first call, one number.

    A fused one changes parameters, and PyTorch does not count it as a change in place.
    """
    steps = [0]

    def count(*_: object) -> None:
        steps[0] += 1

    register_optimizer_step_post_hook(count)
    return steps


def _state(tensor: Tensor) -> tuple[object, ...]:
    """What changes with the values of a parameter: PyTorch counts what is done to it in place."""
    version = 0 if tensor.is_inference() else tensor._version
    return (tensor.data_ptr(), version, tensor.dtype, tensor.device)
