"""Which values make sense: a table of ranges over dotted keys."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True, slots=True)
class ValueRange:
    """Numbers that one key, or the keys of a pattern such as ``optimizer.lr_scale.*``, may have."""

    pattern: str
    above: float = -math.inf  # exclusive
    at_least: float = -math.inf
    at_most: float = math.inf
    below: float = math.inf  # exclusive
    whole: bool = False  # whole numbers only
    or_exactly: float | str | None = None  # one more value that has a meaning of its own, e.g. -1 for "no limit"
    count: int | None = None  # a list of this many such numbers instead of one

    def fault(self, value: Any) -> str | None:  # noqa: ANN401 - any YAML value
        """What is wrong with ``value``, or None; a value of null is never wrong."""
        if value is None:
            return None
        values = value if self.count is not None and isinstance(value, list) else [value]
        if len(values) == (self.count or 1) and all(map(self._holds, values)):
            return None
        return f"expected {self}, got {value!r}"

    def _holds(self, value: Any) -> bool:  # noqa: ANN401
        if isinstance(value, bool) or not isinstance(value, int | float):
            return isinstance(value, str) and value == self.or_exactly
        return value == self.or_exactly or (
            math.isfinite(value)
            and self.above < value < self.below
            and self.at_least <= value <= self.at_most
            and (not self.whole or value == int(value))
        )

    def __str__(self) -> str:
        limits = [
            f"{sign} {limit:g}"
            for sign, limit in ((">", self.above), (">=", self.at_least), ("<=", self.at_most), ("<", self.below))
            if math.isfinite(limit)
        ]
        kind = f"{'whole ' if self.whole else ''}number"
        noun = f"a {kind}" if self.count is None else f"{self.count} {kind}s"
        text = f"{noun} {' and '.join(limits)}".rstrip()
        return text if self.or_exactly is None else f"{text}, or {self.or_exactly}"


RANGES = (
    ValueRange("seed", at_least=0, whole=True),
    ValueRange("batch_size", at_least=1, whole=True),
    ValueRange("num_seeds", at_least=1, whole=True),
    ValueRange("num_processes", at_least=1, whole=True),
    ValueRange("size.resolution", at_least=1, whole=True),
    ValueRange("optimizer.lr", above=0),
    ValueRange("optimizer.lr_scale.*", at_least=0),
    ValueRange("optimizer.weight_decay", at_least=0),
    ValueRange("optimizer.eps", at_least=0),
    ValueRange("optimizer.betas", at_least=0, below=1, count=2),
    ValueRange("schedule.*_steps", at_least=0, whole=True),
    ValueRange("schedule.*_ratio", at_least=0, at_most=1),
    ValueRange("objective.*_prob", at_least=0, at_most=1),
    ValueRange("objective.*_weight", at_least=0),
    ValueRange("objective.target_variance", above=0),
    ValueRange("trainer.max_steps", at_least=1, whole=True, or_exactly=-1),
    ValueRange("trainer.max_epochs", at_least=1, whole=True, or_exactly=-1),
    ValueRange("trainer.accumulate_grad_batches", at_least=1, whole=True),
    ValueRange("trainer.gradient_clip_val", at_least=0),
    ValueRange("trainer.log_every_n_steps", at_least=1, whole=True),
    ValueRange("trainer.num_nodes", at_least=1, whole=True),
    ValueRange("trainer.devices", at_least=1, whole=True, or_exactly="auto"),
    ValueRange("trainer.val_check_interval", above=0),
    ValueRange("trainer.limit_val_batches", at_least=0),
    ValueRange("callbacks.checkpoint.every_n_train_steps", at_least=0, whole=True),
    ValueRange("callbacks.checkpoint.save_top_k", at_least=-1, whole=True),
    ValueRange("callbacks.evaluate.num_*", at_least=0, whole=True),
    ValueRange("data*.batch_size", at_least=1, whole=True),
    ValueRange("data.max_aspect", at_least=1),
    ValueRange("data.length_buckets", at_least=2, whole=True),
    ValueRange("data.streaming_mib", at_least=1, whole=True),
    ValueRange("data*.num_workers", at_least=0, whole=True),
    ValueRange("data.num_examples*", at_least=1, whole=True),
    ValueRange("data.reader.seed", at_least=0, whole=True),
    ValueRange("data.reader.families.*", at_least=0),
    ValueRange("*.num_inference_steps", at_least=1, whole=True),
    ValueRange("*.guidance_scale", at_least=0),
    ValueRange("*.image_guidance_scale", at_least=0),
    ValueRange("*.guidance_interval", at_least=0, at_most=1, count=2),
    ValueRange("preview.count", at_least=1, whole=True),
)


def range_faults(values: Mapping[str, Any], ranges: tuple[ValueRange, ...] = RANGES) -> Iterator[str]:
    """Check values by their dotted keys; keys that no range names are free.

    Args:
        values: Leaves of a resolved config, e.g. ``{"optimizer.lr": 1e-4}``.
        ranges: What to check.

    Yields:
        One line per fault, e.g. ``optimizer.lr: expected a number > 0, got -1``.
    """
    for limits in ranges:
        for key, value in values.items():
            if fnmatchcase(key, limits.pattern) and (fault := limits.fault(value)):
                yield f"{key}: {fault}"
