from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest

from mgie_lit.doctor import environment
from mgie_lit.doctor.environment import look_at_environment, torchvision_fault, wandb_fault


def test_versions_and_disk_of_a_folder_that_is_not_there_yet(tmp_path: Path) -> None:
    found = look_at_environment(tmp_path / "a" / "b", None)
    assert list(found.versions) == ["python", "torch", "lightning", "transformers", "diffusers", "wandb"]
    assert all(found.versions.values())
    assert found.disk == tmp_path
    assert found.disk_free == pytest.approx(shutil.disk_usage(tmp_path).free, rel=0.1)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("logger", "variable", "mode"),
    [
        (None, "online", "off"),
        ({"offline": True}, "", "offline"),
        ({"offline": False}, "", "online"),
        ({"offline": False}, "offline", "offline"),
        ({"offline": True}, "DISABLED", "disabled"),
    ],
)
def test_wandb_mode(logger: dict[str, bool] | None, variable: str, mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", variable)
    assert look_at_environment(Path(), logger).wandb == mode


@pytest.mark.faults
def test_streaming_to_wandb_needs_a_login(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    assert wandb_fault("off") is None
    assert wandb_fault("offline") is None
    fault = wandb_fault("online")
    assert fault is not None
    assert fault.startswith("logger.wandb: expected a login for streaming (WANDB_API_KEY, or api.wandb.ai in ~/.netrc)")
    (tmp_path / ".netrc").write_text("machine api.wandb.ai login user password secret\n")
    (tmp_path / ".netrc").chmod(0o600)
    assert wandb_fault("online") is None
    (tmp_path / ".netrc").unlink()
    monkeypatch.setenv("WANDB_API_KEY", "secret")
    assert wandb_fault("online") is None


class TestTorchvision:
    def test_none_is_as_it_should_be(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: None)
        assert torchvision_fault() is None
        assert look_at_environment(Path(), None).torchvision == "not installed, and not needed"

    def test_one_that_works_does_no_harm(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr(environment.importlib, "import_module", ModuleType)
        assert torchvision_fault() is None

    @pytest.mark.faults
    def test_one_that_does_not_fit_torch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(name: str) -> None:
            raise RuntimeError(f"operator {name}::nms does not exist")

        monkeypatch.setattr(environment.importlib.util, "find_spec", lambda name: object())
        monkeypatch.setattr(environment.importlib, "import_module", fail)
        fault = torchvision_fault()
        assert fault is not None
        assert fault.startswith("torchvision: expected none, or one that fits torch ")
        assert "operator torchvision::nms does not exist" in fault
        assert fault.endswith("run `pip uninstall torchvision`")
