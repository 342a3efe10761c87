"""What a user is told when a training ends by an error of the machine rather than of the code."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from mgie_lit.config.runs import resolved
from mgie_lit.config.shapes import build_shapes
from mgie_lit.config.start import start_sources
from mgie_lit.data.workers import explain_worker
from mgie_lit.errors import TrainingError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from omegaconf import DictConfig

    from mgie_lit.data.datamodule import EditDataModule

LOG = logging.getLogger(__name__)
_NO_MEMORY = ("out of memory", "can't allocate memory", "cannot allocate memory", "alloc_failed")


@contextmanager
def machine_faults_explained(config: DictConfig, datamodule: EditDataModule) -> Iterator[None]:
    """Say what to do where memory ran out, a compiler failed or a loader process died; other errors pass.

    Args:
        config: Of the training.
        datamodule: Knows what its loader processes were reading.

    Yields:
        Nothing.

    Raises:
        TrainingError: Memory ran out, the UNet's blocks could not be compiled, or a loader process died.
    """
    try:
        yield
    except Exception as error:
        told = (
            out_of_memory(error, config) or failed_compiler(error, config) or explain_worker(error, datamodule.watched)
        )
        if told is error:
            raise
        raise told from error


def out_of_memory(error: Exception, config: DictConfig) -> TrainingError | None:
    """What to tell about an error if it says that there was no memory left, of the device or of the machine.

    Args:
        error: Any error of a training.
        config: Of the training; what it needs is estimated from it.

    Returns:
        The message with estimate and remedies; None where the error is another one.
    """
    text = str(error)
    is_memory = isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        isinstance(error, RuntimeError) and any(words in text.lower() for words in _NO_MEMORY)
    )
    if not is_memory:
        return None
    reason = (text.strip() or type(error).__name__).splitlines()[0]
    return TrainingError(
        f"memory: expected room for the training, got: {reason}\n"
        f"{_estimate(config)}\n"
        "Lower data.batch_size (effective_batch_size=<n> keeps the examples of a step), take "
        "trainer.precision=bf16-mixed or bf16-true, train fewer parts (trainable=paper), cache what is frozen (`mgie "
        "prepare cache`), or spread weights over GPUs (trainer=fsdp). If it happened in a validation, lower "
        "callbacks.evaluate.batch_size; if it is the machine's memory, data.num_workers, too"
    )


def failed_compiler(error: Exception, config: DictConfig) -> TrainingError | None:
    """What to tell about an error of ``torch.compile``; None where the error is another one."""
    switches = {
        f"compute.{key}": value
        for key, value in config.get("compute", {}).items()
        if key.startswith("compile_") and value is not None
    }
    if not switches:
        return None
    from torch._dynamo.exc import TorchDynamoException  # there already, where a backend is named

    if not isinstance(error, TorchDynamoException):
        return None
    cause = getattr(error, "inner_exception", error)
    reason = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return TrainingError(
        f"{' '.join(f'{key}={value}' for key, value in switches.items())}: expected code that compiles, got: {reason}\n"
        "inductor needs a C++ compiler on the CPU (g++, or the one that the variable CXX names) and Triton on a GPU. "
        f"Without it train with {' '.join(f'{key}=null' for key in switches)}"
    )


def _estimate(config: DictConfig) -> str:
    from mgie_lit.doctor.diagnosis import binary, diagnose

    try:
        found = diagnose(
            resolved(config),
            build_shapes(config),
            choices={},
            requirements=[],
            loaded_parts=tuple(start_sources(config)),
        )
    except Exception as error:  # there may be no memory for this either
        LOG.debug("no estimate: %s", error)
        return "No estimate could be made; `mgie doctor` with the same overrides makes one."
    memory, setup = found.memory, found.setup
    parts = {
        "weights": memory.weights,
        "gradients": memory.gradients,
        "optimizer": memory.optimizer,
        "exchange of gradients": memory.buckets,
        "kept for the backward": memory.activations,
        "temporary": memory.temporary,
    }
    listed = ", ".join(f"{name} {binary(size)}" for name, size in parts.items() if size)
    return (
        f"By the estimate of `mgie doctor` each of {setup.num_processes} processes needs {binary(memory.total)} with "
        f"{setup.shape.batch_size} examples a batch in {setup.precision.name}: {listed}."
    )
