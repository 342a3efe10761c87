"""How fast a training is, and what it waits for."""

from __future__ import annotations

import logging
import resource
import sys
import time
from dataclasses import dataclass, fields
from typing import Any

import lightning
import torch
from lightning.pytorch.utilities import rank_zero_only
from torch import Tensor

from mgie_lit.functional.operations import OperationCount
from mgie_lit.training.peaks import TERA, peak_flops
from mgie_lit.types import EditBatch

LOG = logging.getLogger(__name__)
MAX_COUNTED = 64  # shapes of batches whose operations are counted; others are taken for the nearest of them
# Columns of metrics.csv that differ between two runs of one config.
TIMINGS = (
    "train/examples_per_second",
    "train/tokens_per_second",
    "train/flops_per_second",
    "train/flops_per_second_share",
    "train/time_waiting_share",
    "train/memory_gib",
)


@dataclass
class _Work:
    """What was done since some moment, by this process but for what is said."""

    seconds: float = 0.0
    waiting: float = 0.0  # seconds, between two steps
    examples: int = 0
    tokens: int = 0
    flops: int = 0

    def add(self, other: _Work) -> None:
        for field in fields(self):
            setattr(self, field.name, getattr(self, field.name) + getattr(other, field.name))


class Throughput(lightning.Callback):
    """Logs the speed where the trainer logs, and prints a summary when the training ends.

    * ``train/examples_per_second`` and ``train/tokens_per_second`` over all processes; tokens are positions of the
      text, padding included.
    * ``train/flops_per_second`` of each process, ``train/flops_per_second_share`` of its device's peak where that is
      known. Counted are the matrix products, convolutions and fused attention of forward and backward, as they run, the
      first time that a batch of some shape comes: what is computed a second time to save memory counts twice.
    * ``train/time_waiting_share``: between the end of one step and the beginning of the next, for a batch. On a GPU,
      which computes on meanwhile, the host's time.
    * ``train/memory_gib``: the most that this process's GPU had in use.

    The clock is the host's, and nothing here waits for the device. Validations, checkpoints and the first batch are not
    counted.
    """

    def __init__(self) -> None:
        self._since: float | None = None  # when the last batch ended; None = the clock stands
        self._waited = 0.0  # of the batch that runs
        self._recent = _Work()
        self._total = _Work()
        self._first_step = 0
        self._known: dict[tuple[tuple[int, ...], ...], int] = {}  # shapes of a batch -> operations
        self._count: OperationCount | None = None

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Note where the training, or what is left of it, begins."""
        self._first_step = trainer.global_step

    def on_train_batch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, batch: EditBatch, batch_idx: int
    ) -> None:
        """See how long the batch was waited for; count its operations if none of its shape came before."""
        if self._since is not None:
            self._waited = time.perf_counter() - self._since
        if _shapes(batch) not in self._known and len(self._known) < MAX_COUNTED and not _is_compiled(pl_module):
            self._count = OperationCount()
            self._count.__enter__()  # type: ignore[no-untyped-call]

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: EditBatch,
        batch_idx: int,
    ) -> None:
        """Count a batch; log where the trainer logs."""
        if self._count is not None:
            self._known[_shapes(batch)] = self._leave_count()
        now, before = time.perf_counter(), self._since
        self._since = now
        if before is None:
            return
        examples, tokens = len(batch) * trainer.world_size, batch.input_ids.numel() * trainer.world_size
        self._recent.add(_Work(now - before, self._waited, examples, tokens, self._flops(batch)))
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            pl_module.log_dict(self._rates(self._recent, trainer, pl_module.device))
            self._bank()

    def on_save_checkpoint(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Stop the clock, as validation does."""
        self._stop()

    def on_validation_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Stop the clock; the next step starts it again."""
        self._stop()

    @rank_zero_only
    def on_train_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Say in one line how it went."""
        self._bank()
        if self._total.seconds == 0:
            return
        rates = self._rates(self._total, trainer, pl_module.device)
        said = [
            f"{trainer.global_step - self._first_step:,} steps",
            f"{rates['train/examples_per_second']:,.1f} examples/s",
            f"{rates['train/tokens_per_second']:,.0f} tokens/s",
        ]
        if flops := rates.get("train/flops_per_second"):
            share = rates.get("train/flops_per_second_share")
            of_peak = "" if share is None else f" ({share:.0%} of the device's peak)"
            said.append(f"{flops / TERA:.3g} x 10^12 operations/s in each process{of_peak}")
        said.append(f"{rates['train/time_waiting_share']:.0%} of the time waiting for data")
        said.append(f"at most {_peak_memory(pl_module.device) / 2**30:.2f} GiB of memory")
        LOG.info("throughput: %s", ", ".join(said))

    def on_exception(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, exception: BaseException
    ) -> None:
        """Count no further."""
        if self._count is not None:
            self._leave_count()

    def _leave_count(self) -> int:
        assert self._count is not None
        count, self._count = self._count, None
        count.__exit__(None, None, None)  # type: ignore[no-untyped-call]
        return count.total

    def _flops(self, batch: EditBatch) -> int:
        """Operations of a batch: as counted for its shape, or for the one with the most similar number of tokens."""
        if not self._known:
            return 0
        shapes, size = _shapes(batch), batch.input_ids.numel()
        nearest = min(self._known, key=lambda known: abs(known[0][0] * known[0][1] - size))
        return self._known.get(shapes, self._known[nearest])

    def _rates(self, work: _Work, trainer: lightning.Trainer, device: torch.device) -> dict[str, float]:
        seconds = max(work.seconds, sys.float_info.min)
        rates = {
            "train/examples_per_second": work.examples / seconds,
            "train/tokens_per_second": work.tokens / seconds,
            "train/time_waiting_share": work.waiting / seconds,
        }
        if work.flops:
            rates["train/flops_per_second"] = work.flops / seconds
            if peak := _peak(device, str(trainer.precision)):
                rates["train/flops_per_second_share"] = work.flops / seconds / peak
        if device.type == "cuda":
            rates["train/memory_gib"] = _peak_memory(device) / 2**30
        return rates

    def _bank(self) -> None:
        self._total.add(self._recent)
        self._recent = _Work()

    def _stop(self) -> None:
        self._bank()
        self._since = None


def _shapes(batch: EditBatch) -> tuple[tuple[int, ...], ...]:
    """Of all tensors of a batch, that of the texts first."""
    tensors = (getattr(batch, field.name) for field in fields(batch))
    return tuple(batch.input_ids.shape), *(tuple(value.shape) for value in tensors if isinstance(value, Tensor))


def _is_compiled(module: torch.nn.Module) -> bool:
    """Compiled code would be compiled anew to be counted."""
    return any(getattr(part, "_compiled_call_impl", None) is not None for part in module.modules())


def _peak(device: torch.device, precision: str) -> float | None:
    """Operations a second that the device's maker names for the number type of a training."""
    if device.type != "cuda":
        return None
    half, single = peak_flops(torch.cuda.get_device_name(device))
    return half if precision.startswith(("16", "bf16")) else single


def _peak_memory(device: torch.device) -> int:
    """Bytes: of the GPU in use by tensors, or of the machine by this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
