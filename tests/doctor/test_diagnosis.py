from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgie_lit.config.compose import compose_config
from mgie_lit.config.runs import resolved
from mgie_lit.config.shapes import build_shapes
from mgie_lit.doctor import diagnosis as module_under_test
from mgie_lit.doctor.diagnosis import Diagnosis, binary, diagnose
from mgie_lit.doctor.dry_run import DryRun
from mgie_lit.doctor.files import Requirement
from mgie_lit.doctor.hardware import Device
from mgie_lit.training.peaks import TERA

GIB = 2**30
GPU = Device("NVIDIA H100 80GB HBM3", "cuda", 80 * GIB, 989 * TERA, 67 * TERA)
CPU = Device("CPU, 4 cores", "cpu", 16 * GIB)
RUN = DryRun({"UNet": 10 * GIB}, 11 * GIB, 20 * TERA, 30 * TERA)


@pytest.fixture
def _no_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module_under_test, "dry_run", lambda *args, **kwargs: RUN)


def diagnosed(tmp_path: Path, *overrides: str, devices: list[Device], **kwargs: Any) -> Diagnosis:  # noqa: ANN401
    config = compose_config("train", ["size=tiny", f"paths.root={tmp_path}", *overrides])
    options: dict[str, Any] = {"choices": {}, "requirements": [], "loaded_parts": ()} | kwargs
    return diagnose(resolved(config), build_shapes(config), devices=devices, **options)


@pytest.mark.usefixtures("_no_step")
def test_tiny_can_start_on_a_cpu(tmp_path: Path) -> None:
    found = diagnosed(tmp_path, "data.batch_size=2", "effective_batch_size=4", devices=[CPU])
    assert found.problems == []
    assert (found.setup.accumulation, found.setup.num_steps, found.setup.num_processes) == (2, 1000, 1)
    assert found.flops_per_step == 2 * RUN.flops
    assert sum(part.total for part in found.parts) == 1_553_313
    assert found.seconds_per_step is None
    assert found.faults == []


@pytest.mark.usefixtures("_no_step")
class TestSetup:
    def test_gpus_and_machines(self, tmp_path: Path) -> None:
        overrides = ("trainer=ddp", "trainer.devices=4", "trainer.num_nodes=2", "data.batch_size=4")
        found = diagnosed(tmp_path, *overrides, "trainer.max_steps=-1", "preset=released", devices=[GPU] * 4)
        assert (found.setup.num_processes, found.setup.accumulation, found.setup.num_steps) == (8, 1, None)
        assert found.setup.is_cuda
        assert found.memory.buckets > 0
        assert "half_vision_tower" in found.faults
        assert "_target_" not in found.faults

    def test_time_at_usual_shares_of_the_peak(self, tmp_path: Path) -> None:
        found = diagnosed(tmp_path, "trainer=gpu", "effective_batch_size=null", devices=[GPU])
        assert found.seconds_per_step == pytest.approx((50 / 989 / 0.5, 50 / 989 / 0.3))
        single = diagnosed(
            tmp_path, "trainer=gpu", "effective_batch_size=null", "trainer.precision=32-true", devices=[GPU]
        )
        assert single.seconds_per_step == pytest.approx((50 / 67 / 0.5, 50 / 67 / 0.3))


@pytest.mark.faults
@pytest.mark.usefixtures("_no_step")
class TestProblems:
    def test_files(self, tmp_path: Path) -> None:
        needs = [
            Requirement("data.root", "null", "missing", fault="nothing is named"),
            Requirement("size.start.mllm", "a", "missing", fault="found nothing"),
            Requirement("size.start.diffusion", "b", "here"),
        ]
        found = diagnosed(tmp_path, devices=[CPU], requirements=needs)
        assert found.problems == ["data.root: nothing is named", "size.start.mllm=a: found nothing"]

    def test_no_such_device(self, tmp_path: Path) -> None:
        problems = diagnosed(tmp_path, "trainer=gpu", devices=[CPU]).problems
        assert problems[0].startswith(
            "trainer.accelerator: expected 1 x gpu, this machine has none; run the training on"
        )

    def test_too_few_devices(self, tmp_path: Path) -> None:
        overrides = ("trainer=ddp", "trainer.devices=4", "data.batch_size=4")
        problems = diagnosed(tmp_path, *overrides, devices=[GPU, GPU, CPU]).problems
        assert problems == [
            "trainer.devices: expected at most the 2 of this machine, got 4; trainer.devices=2",
        ]

    @pytest.mark.parametrize(("room", "fits"), [(11, False), (13, True)])
    def test_memory_of_a_gpu(self, room: int, fits: bool, tmp_path: Path) -> None:
        device = Device("Small", "cuda", room * GIB)
        problems = diagnosed(tmp_path, "trainer=gpu", devices=[device]).problems
        assert (problems == []) == fits
        if not fits:
            assert problems[0].startswith(
                "memory: expected 11 GiB on each device, Small has 11 GiB, of which 92% can be"
            )

    def test_memory_of_a_machine_is_shared_by_its_processes(self, tmp_path: Path) -> None:
        overrides = ("trainer=ddp", "trainer.accelerator=cpu", "data.batch_size=4")
        assert diagnosed(tmp_path, *overrides, "trainer.devices=1", devices=[CPU]).problems == []
        problems = diagnosed(tmp_path, *overrides, "trainer.devices=2", devices=[CPU]).problems
        assert problems[0].startswith("memory: expected 22.1 GiB for 2 processes, this machine has 16 GiB; lower data.")

    def test_disk(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(module_under_test, "checkpoint_bytes", lambda *args: 2**60)
        problems = diagnosed(tmp_path, devices=[CPU]).problems
        assert problems[0].startswith("paths.root: expected room for a checkpoint of 1,073,741,824 GiB,")


@pytest.mark.slow
def test_what_is_computed_again_needs_less_memory_at_the_papers_size(tmp_path: Path) -> None:
    recipe = ("experiment=mgie_7b_ipr2pr", "size=llava_7b", "size.tokenizer.source=small", "data.root=unused")
    needs = {}
    for switch in ("frozen_in_bf16", "checkpoint_unet", "checkpoint_language_model"):
        found = diagnosed(tmp_path, *recipe, f"compute.{switch}=true", devices=[GPU] * 8)
        assert found.problems == []
        needs[switch] = found
    plain, unet, language_model = (found.run.kept for found in needs.values())
    assert unet["UNet"] < 0.2 * plain["UNet"]
    assert unet["language model"] == plain["language model"]
    assert language_model["language model"] < 0.2 * plain["language model"]
    totals = [found.memory.total for found in needs.values()]
    assert totals[0] > max(totals[1:])


@pytest.mark.parametrize(
    ("num_bytes", "text"), [(0, "0 MiB"), (2**20, "1 MiB"), (2**30 - 2**20, "1,023 MiB"), (80 * 2**30, "80 GiB")]
)
def test_bytes_as_text(num_bytes: int, text: str) -> None:
    assert binary(num_bytes) == text
