from __future__ import annotations

from pathlib import Path

import pytest

from mgie_lit.doctor.diagnosis import Diagnosis, Setup
from mgie_lit.doctor.dry_run import DryRun, StepShape
from mgie_lit.doctor.environment import Environment
from mgie_lit.doctor.files import Requirement
from mgie_lit.doctor.hardware import Device
from mgie_lit.doctor.memory import estimate_memory
from mgie_lit.doctor.parts import PartCount
from mgie_lit.doctor.precision import parse_precision
from mgie_lit.training.peaks import TERA

GIB = 2**30
H100 = Device("NVIDIA H100 80GB HBM3", "cuda", 79 * GIB, 989 * TERA, 67 * TERA)
CPU = Device("CPU, 4 cores", "cpu", 16 * GIB)


@pytest.fixture
def diagnosis() -> Diagnosis:
    """Of a training that can start, on two GPUs."""
    run = DryRun({"UNet": 3 * GIB, "losses": GIB // 2}, 4 * GIB, 20 * TERA, 30 * TERA)
    return Diagnosis(
        environment=Environment(
            {"python": "3.11", "wandb": None}, "not installed, and not needed", Path("/data"), GIB, "off"
        ),
        devices=[H100, H100, CPU],
        used=[H100, H100],
        choices={"model": "mgie", "preset": "fixed", "hydra/launcher": "basic"},
        faults=[],
        setup=Setup("gpu", 2, 1, 4, 1000, StepShape(4, 512, 824, 256), parse_precision("bf16-mixed"), True),
        parts=[PartCount("UNet", 1_000_000, 1_000_000), PartCount("autoencoder", 20_000, 0)],
        run=run,
        memory=estimate_memory(4_080_000, 4_000_000, run, num_processes=2, is_cuda=True),
        checkpoint=12_000_000,
        requirements=[Requirement("size.start.mllm", "weights/llava", "here")],
        problems=[],
    )
