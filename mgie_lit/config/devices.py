"""Which device to run on: what the user named, or the fastest one of this machine."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from mgie_lit.errors import ConfigError


def choose_device(name: str | None, *, option: str = "--device") -> torch.device:
    """The device to run on.

    Args:
        name: E.g. ``cpu`` or ``cuda:1``; None takes the GPU where there is one.
        option: What the user wrote the name under, for the message.

    Returns:
        A device that this machine has.

    Raises:
        ConfigError: The machine has no such device.
    """
    available = available_devices()
    if name is None:
        return torch.device(available[0])
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is not None:
        wanted = f"{device.type}:{device.index or 0}" if device.type == "cuda" else str(device)
        if wanted in available:
            return device
    raise ConfigError(f"{option}: expected one of {', '.join(available)}, got {name}")


def available_devices() -> list[str]:
    """Devices of this machine, the fastest first."""
    names = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        names.append("mps")
    return [*names, "cpu"]


def count_devices(accelerator: str, devices: int | str | Sequence[int]) -> int:
    """How many processes a training has on this machine: one for each device.

    Args:
        accelerator: As Lightning's: ``cpu``, ``gpu``, ``auto`` ...
        devices: A number, a list of indices, or ``auto`` or -1 for all that there are.

    Returns:
        At least 1; of CPUs ``auto`` means one.

    Raises:
        ConfigError: ``devices`` is none of these.
    """
    if isinstance(devices, Sequence) and not isinstance(devices, str):
        return max(1, len(devices))
    if devices in {"auto", -1, "-1"}:
        import torch

        return 1 if accelerator == "cpu" else max(1, torch.cuda.device_count())
    if isinstance(devices, int) and devices > 0:
        return devices
    raise ConfigError(f"trainer.devices: expected a number >= 1, a list of indices, or auto, got {devices!r}")
