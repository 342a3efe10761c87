from __future__ import annotations

import pytest
import torch

from mgie_lit.doctor.hardware import Device, machine_devices, training_devices
from mgie_lit.training.peaks import TERA, peak_flops

CPU = Device("CPU, 4 cores", "cpu", 8 * 2**30)
GPU = Device("NVIDIA H100 80GB HBM3", "cuda", 80 * 2**30, 989 * TERA, 67 * TERA)


@pytest.mark.parametrize(
    ("name", "half", "single"),
    [
        ("NVIDIA H100 80GB HBM3", 989, 67),
        ("NVIDIA H100 PCIe", 756, 51),
        ("NVIDIA A100-SXM4-40GB", 312, 19.5),
        ("NVIDIA L4", 121, 30.3),
        ("NVIDIA L40S", 362, 91.6),
        ("NVIDIA GeForce RTX 3090", 71, 35.6),
    ],
)
def test_peak_by_name(name: str, half: float, single: float) -> None:
    assert peak_flops(name) == (half * TERA, single * TERA)


@pytest.mark.parametrize("name", ["NVIDIA A10G", "Some GPU", "NVIDIA T400", ""])
def test_peak_that_is_not_known(name: str) -> None:
    assert peak_flops(name) == (None, None)


def test_peak_depends_on_the_number_type() -> None:
    assert GPU.flops(torch.bfloat16) == 989 * TERA
    assert GPU.flops(torch.float32) == 67 * TERA
    assert CPU.flops(torch.float32) is None


@pytest.mark.parametrize(
    ("accelerator", "expected"),
    [("cpu", [CPU]), ("gpu", [GPU, GPU]), ("cuda", [GPU, GPU]), ("auto", [GPU, GPU]), ("mps", []), ("tpu", [])],
)
def test_which_devices_train(accelerator: str, expected: list[Device]) -> None:
    assert training_devices(accelerator, [GPU, GPU, CPU]) == expected


def test_auto_takes_the_cpu_where_there_is_nothing_else() -> None:
    assert training_devices("auto", [CPU]) == [CPU]
    assert training_devices("gpu", [CPU]) == []


def test_this_machine_has_a_cpu_with_memory() -> None:
    cpu = machine_devices()[-1]
    assert cpu.kind == "cpu"
    assert cpu.memory > 2**30
