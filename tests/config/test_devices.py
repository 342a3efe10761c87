from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from mgie_lit.config.devices import available_devices, choose_device
from mgie_lit.errors import ConfigError


def test_cpu_is_always_there_and_the_last_choice() -> None:
    assert available_devices()[-1] == "cpu"
    assert choose_device("cpu") == torch.device("cpu")


def test_no_name_takes_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.config.devices.available_devices", lambda: ["cuda:0", "cpu"])
    assert choose_device(None) == torch.device("cuda:0")
    assert choose_device("cuda") == torch.device("cuda")


@pytest.mark.faults
@pytest.mark.parametrize("name", ["cuda:99", "tpu", "", "cuda:x"])
def test_a_device_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.config.devices.available_devices", lambda: ["cuda:0", "cpu"])
    with pytest.raises(ConfigError, match=f"^--device: expected one of cuda:0, cpu, got {name}$"):
        choose_device(name)
    with pytest.raises(ConfigError, match=f"^device: expected one of cuda:0, cpu, got {name}$"):
        choose_device(name, option="device")


def test_hydra_is_not_imported() -> None:
    code = "import sys, mgie_lit.config.devices; sys.exit(bool({'hydra', 'omegaconf'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
