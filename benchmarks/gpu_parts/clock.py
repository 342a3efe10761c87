"""Times and memory of a device, and how fast it multiplies."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeVar

import torch

MATRIX_SIDES = {"cuda": (4096, 8192, 12288, 16384), "cpu": (256,)}
PRODUCTS = 10  # timed together
T = TypeVar("T")


@dataclass
class Clock:
    """Times what a device does.

    Args:
        device: A GPU, by its events, or the CPU.
        repeats: Of everything that is timed, after one that does not count; the median is taken.
    """

    device: torch.device
    repeats: int

    def seconds(self, call: Callable[[], object]) -> list[float]:
        """Of every repetition."""
        call()
        return [self._once(call) for _ in range(self.repeats)]

    def _once(self, call: Callable[[], object]) -> float:
        if self.device.type != "cuda":
            begin = time.perf_counter()
            call()
            return time.perf_counter() - begin
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        torch.cuda.synchronize(self.device)
        start.record()
        call()
        end.record()
        torch.cuda.synchronize(self.device)
        return start.elapsed_time(end) / 1000  # from milliseconds

    def forget(self) -> None:
        """Give back what nothing refers to, and measure the peak anew."""
        if self.device.type == "cuda":
            gc.collect()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)


def fitting(clock: Clock, call: Callable[[], T]) -> T | None:
    """What a call gives, or None where the memory of the GPU does not suffice."""
    result = None
    with suppress(torch.cuda.OutOfMemoryError):
        result = call()
    clock.forget()  # only now: the error held what was computed
    return result


def matrix_rates(clock: Clock) -> dict[int, float]:
    """Operations a second of products of square bfloat16 matrices, by their side; the best of all repetitions."""
    rates = {}
    for side in MATRIX_SIDES[clock.device.type]:
        one, other = (torch.randn(side, side, device=clock.device, dtype=torch.bfloat16) for _ in range(2))
        result = torch.empty_like(one)

        def multiply(one: torch.Tensor = one, other: torch.Tensor = other, result: torch.Tensor = result) -> None:
            for _ in range(PRODUCTS):
                torch.mm(one, other, out=result)

        rates[side] = 2 * side**3 * PRODUCTS / min(clock.seconds(multiply))
    return rates
