"""The devices that a training would run on: how many there are, their memory, and what they can compute."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch

from mgie_lit.training.peaks import peak_flops


@dataclass(frozen=True, slots=True)
class Device:
    """One device of this machine."""

    name: str
    kind: str  # cuda, mps or cpu
    memory: int  # bytes; of the CPU the machine's, which all of a training's processes share
    half_flops: float | None = None  # per second; None = not known
    single_flops: float | None = None

    def flops(self, dtype: torch.dtype) -> float | None:
        """Peak operations per second of matrix products in a number type; None where it is not known."""
        return self.half_flops if dtype in (torch.float16, torch.bfloat16) else self.single_flops


def machine_devices() -> list[Device]:
    """Accelerators of this machine, then its CPU."""
    gpus = [_cuda_device(index) for index in range(torch.cuda.device_count())]
    apple = [Device("Apple GPU", "mps", _machine_memory())] if torch.backends.mps.is_available() else []
    return [*gpus, *apple, Device(f"CPU, {os.cpu_count()} cores", "cpu", _machine_memory())]


def training_devices(accelerator: str, devices: list[Device]) -> list[Device]:
    """Those of a machine's devices that ``trainer.accelerator`` means; the CPU counts once, it takes many processes.

    Args:
        accelerator: ``cpu``, ``gpu``, ``cuda``, ``mps`` or ``auto``; none of the others is known here.
        devices: From `machine_devices`.

    Returns:
        Empty where the machine has none of them.
    """
    kinds = {
        "cpu": ("cpu",),
        "cuda": ("cuda",),
        "mps": ("mps",),
        "gpu": ("cuda", "mps"),
        "auto": ("cuda", "mps", "cpu"),
    }
    for kind in kinds.get(accelerator, ()):
        if found := [device for device in devices if device.kind == kind]:
            return found
    return []


def _cuda_device(index: int) -> Device:
    properties = torch.cuda.get_device_properties(index)
    half, single = peak_flops(properties.name)
    return Device(properties.name, "cuda", properties.total_memory, half, single)


def _machine_memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
