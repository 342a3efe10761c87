from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mgie_lit.config.targets import locate, target_faults

pytestmark = pytest.mark.faults


def faults_of(node: dict[str, Any]) -> list[str]:
    return list(target_faults({"part": node}))


def test_good_nodes_have_no_faults() -> None:
    nodes: list[dict[str, Any]] = [
        {"_target_": "torch.optim.AdamW", "_partial_": True, "lr": 1e-3},  # params comes later
        {"_target_": "torch.nn.Linear", "in_features": 3, "_convert_": "all"},
        {"_target_": "torch.nn.Linear", "_args_": [3, 4]},
        {"_target_": "torch.nn.Sequential", "_args_": [1, 2, 3]},
        {"_target_": "mgie_lit.types.EditedImage.__init__", "image": 1},
    ]
    assert [fault for node in nodes for fault in faults_of(node)] == []


@pytest.mark.parametrize(
    "target", ["os.system", "torchvision.ops.nms", "builtins.eval", "torch", "", 3, "mgie_lit_x.y"]
)
def test_other_packages_are_refused(target: object) -> None:
    (fault,) = faults_of({"_target_": target})
    assert fault == (
        "part._target_: expected a class or function of mgie_lit, torch, lightning, torchmetrics, diffusers, "
        f"transformers, got {target!r}"
    )


def test_unknown_parameter_gets_the_nearest() -> None:
    (fault,) = faults_of({"_target_": "torch.nn.Linear", "in_feature": 3, "out_features": 2})
    assert fault.startswith("part.in_feature: torch.nn.Linear has no parameter in_feature; did you mean in_features?")
    assert "(it takes in_features, out_features, bias, device, dtype)" in fault


def test_all_unknown_parameters_are_named() -> None:
    faults = faults_of(
        {"_target_": "torch.nn.Linear", "x": 1, "y": 2, "child": {"_target_": "torch.nn.Linear", "z": 1}}
    )
    assert [fault.partition(":")[0] for fault in faults] == ["part.x", "part.y", "part.child", "part.child.z"]


def test_variable_keywords_take_anything() -> None:
    assert faults_of({"_target_": "torch.nn.Sequential.__call__", "self": 1, "anything": 1}) == []


def test_too_many_positional_values() -> None:
    (fault,) = faults_of({"_target_": "torch.nn.Flatten", "_args_": [1, 2, 3]})
    assert fault == "part._args_: torch.nn.Flatten: too many positional arguments"


def test_positional_and_named_clash() -> None:
    (fault,) = faults_of({"_target_": "torch.nn.Flatten", "_args_": [1], "start_dim": 1})
    assert "multiple values for argument 'start_dim'" in fault


def test_nodes_in_lists_have_paths() -> None:
    (fault,) = target_faults({"parts": [{"_target_": "torch.nn.Flatten"}, {"_target_": "torch.nn.Flatten", "x": 1}]})
    assert fault.startswith("parts[1].x: ")


def test_unknown_name_gets_the_nearest() -> None:
    (fault,) = faults_of({"_target_": "torch.optim.AdmW"})
    assert fault == "part._target_: cannot import torch.optim.AdmW: torch.optim has no AdmW; did you mean AdamW?"


def test_target_that_is_no_callable() -> None:
    (fault,) = faults_of({"_target_": "mgie_lit.vocabulary"})
    assert fault == "part._target_: expected a class or function, but mgie_lit.vocabulary is a module"


def test_locate_finds_modules_not_yet_imported_and_attributes() -> None:
    from mgie_lit.types import EditBatch

    assert locate("mgie_lit.types.EditBatch.to") is EditBatch.to


def test_locate_names_what_a_module_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more").mkdir()
    (tmp_path / "needs_more" / "__init__.py").touch()
    (tmp_path / "needs_more" / "part.py").write_text("import not_installed_anywhere")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'not_installed_anywhere'"):
        locate("needs_more.part.Thing")
