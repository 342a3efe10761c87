"""Memory that runs out, and compilers that fail."""

from __future__ import annotations

import re
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from mgie_lit.config import explain
from mgie_lit.config.compose import compose_config
from mgie_lit.config.explain import machine_faults_explained, out_of_memory
from mgie_lit.errors import TrainingError

pytestmark = pytest.mark.faults
NOTHING_READ: Any = SimpleNamespace(watched=[])


def test_machine_without_memory_gets_the_estimate_and_the_knobs() -> None:
    config = compose_config("train", ["experiment=smoke", "paths.run_dir=unused"])
    with pytest.raises(TrainingError) as raised, machine_faults_explained(config, NOTHING_READ):
        torch.empty(2**55)
    reason, estimate, remedies = str(raised.value).splitlines()
    assert "can't allocate memory" in reason
    expected = r"each of 1 processes needs [\d.]+ MiB with 4 examples a batch in 32-true: weights [\d.]+ MiB, gradients"
    assert re.search(expected, estimate), estimate
    for knob in ("data.batch_size", "trainer.precision=bf16-mixed", "trainable=paper", "trainer=fsdp", "num_workers"):
        assert knob in remedies


@pytest.mark.parametrize(
    "error",
    [torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB."), MemoryError()],
    ids=["device", "Python"],
)
def test_other_kinds(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(explain, "build_shapes", lambda _: 1 / 0)  # there is no memory for an estimate either
    told = str(out_of_memory(error, compose_config("train", ["paths.run_dir=unused"])))
    assert f"got: {str(error) or 'MemoryError'}\nNo estimate could be made; `mgie doctor`" in told


def test_compiler_that_fails() -> None:
    def no_compiler(*_: object) -> None:
        raise RuntimeError("g+++ is not a compiler")

    compiled = ["compute.compile_language_model=eager", "compute.compile_unet=inductor"]
    config = compose_config("train", ["paths.run_dir=unused", *compiled])
    with pytest.raises(TrainingError) as raised, machine_faults_explained(config, NOTHING_READ):
        torch.compile(lambda x: x + 1, backend=no_compiler)(torch.ones(2))
    told = str(raised.value)
    assert told.startswith(f"{' '.join(compiled)}: expected code that compiles, got: g+++ is not")
    assert told.endswith("Without it train with compute.compile_language_model=null compute.compile_unet=null")


def test_other_errors_pass() -> None:
    config = compose_config("train", ["paths.run_dir=unused"])
    with pytest.raises(RuntimeError, match="shapes differ"), machine_faults_explained(config, NOTHING_READ):
        raise RuntimeError("shapes differ")
