"""CPU seconds, ratios of them, and memory."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

YARDSTICK = "yardstick"  # the plain side


def seconds(call: Callable[[], object]) -> float:
    """CPU seconds of a call, of all its threads."""
    start = time.process_time()
    call()
    return time.process_time() - start


def ratio(times: dict[str, list[float]], name: str, plain: str = YARDSTICK) -> dict[str, float]:
    """A variant's time over the plain one's, round by round: median, and tenths from both ends."""
    values = np.array(times[name]) / np.array(times[plain])
    return {key: round(float(np.quantile(values, q)), 3) for key, q in (("median", 0.5), ("p10", 0.1), ("p90", 0.9))}


def peak_bytes(script: str, *arguments: str) -> int:
    """What a script prints last, started in a process of its own: its largest resident memory in bytes."""
    command = [sys.executable, script, *arguments]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return int(output.splitlines()[-1])


def high_water_bytes() -> int:
    """Largest memory of this process so far, on the GPU where there is one."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    status = Path("/proc/self/status").read_text(encoding="utf-8")  # getrusage would count the parent's memory, too
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def spread(row: dict[str, float]) -> str:
    """A ratio as text."""
    return f"{row['median']:.2f} [{row['p10']:.2f}, {row['p90']:.2f}]"
