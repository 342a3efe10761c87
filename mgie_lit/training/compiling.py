"""torch.compile of the parts that a training step spends its time in."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import torch

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel

_VARIANTS = 8  # of a block's code, for each size of batch and image and without gradient; the compiler's own number
_SIGNALS = {signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2}


def check_backend(key: str, backend: str | None) -> None:
    """Refuse what ``torch.compile`` does not know.

    Args:
        key: Of the config.
        backend: Its value; None = nothing is compiled.

    Raises:
        ConfigError: It is no backend.
    """
    if backend is None:
        return
    known = torch.compiler.list_backends(exclude_tags=())  # loads the compiler
    if backend not in known:
        usual = sorted({*torch.compiler.list_backends(), "aot_eager", "eager"})  # others are the compiler's own tests
        raise ConfigError(f"{key}: expected null or one of {', '.join(usual)}, got {backend}")


def compile_blocks(unet: UNet2DConditionModel, backend: str) -> None:
    """Compile the blocks of a UNet, in place; names and weights stay.

    Args:
        unet: Its blocks are compiled when they are first called.
        backend: Of ``torch.compile``.
    """
    blocks = [*unet.down_blocks, unet.mid_block, *unet.up_blocks]
    # Blocks of one class share their code. The compiler gives up on code that it has compiled so many times, and the
    # last blocks would run as they are once there were smaller batches and validations; and it would take the blocks'
    # sizes for one that changes, for which its code is slower, or not to be had (inductor on a CPU).
    config = torch._dynamo.config
    config.cache_size_limit = max(config.cache_size_limit, _VARIANTS * len(blocks))
    for block in blocks:
        block.compile(backend=backend, dynamic=False)


def start_workers() -> None:
    """Start the processes in which inductor compiles for a GPU, deaf to signals.

    They end with this process, after what they are compiling.

    Slurm, a terminal and ``timeout`` signal all processes of a job. This one then saves a checkpoint after its step,
    and the compiler would wait forever for workers that ended.
    """
    from torch._inductor.async_compile import AsyncCompile

    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)  # what is started now blocks them, too
    try:
        AsyncCompile.warm_pool()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)  # and a signal that came meanwhile arrives
