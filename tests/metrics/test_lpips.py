from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from safetensors.torch import save_file
from torchmetrics.functional.image import lpips as theirs

from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.metrics import backbones
from mgie_lit.metrics.backbones import SMALLEST_SIDE, Backbone, load_heads
from mgie_lit.metrics.lpips import LPIPS

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def weights(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """Random weights under the names of the published ones, with a classifier's as well."""
    torch.manual_seed(1)
    tensors = Backbone(getattr(request, "param", "alex")).state_dict() | {"classifier.1.weight": torch.zeros(2, 2)}
    torch.save(tensors, tmp_path / "weights.pth")
    return tmp_path / "weights.pth"


def images(side: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    preds, target = torch.rand(2, 2, 3, side, side + 7, generator=generator)
    return preds, target


@pytest.mark.parametrize("weights", ["alex", "vgg"], indirect=True)
def test_equals_torchmetrics_on_the_same_backbone(
    weights: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = request.node.callspec.params["weights"]
    backbone = backbones.load_backbone(net, str(weights))
    monkeypatch.setattr(theirs, "_get_tv_model_features", lambda name, pretrained: backbone.features)
    reference: Any = theirs._LPIPS(pretrained=True, net=net, pnet_rand=True)
    preds, target = images()
    expected = reference(preds, target, normalize=True).flatten()
    scores = LPIPS(weights, net=net).score(preds, target)
    assert scores.tolist() == pytest.approx(expected.tolist(), abs=1e-6)
    assert min(scores.tolist()) > 0.001
    assert LPIPS(weights, net=net).score(target, target).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("weights", ["alex", "vgg"], indirect=True)
def test_smallest_side(weights: Path, request: pytest.FixtureRequest) -> None:
    net = request.node.callspec.params["weights"]
    side = SMALLEST_SIDE[net]
    metric = LPIPS(weights, net=net)
    assert metric.score(torch.rand(1, 3, side, side), torch.rand(1, 3, side, side)).isfinite().all()
    assert metric.score(torch.rand(2, 3, side - 1, 90), torch.rand(2, 3, side - 1, 90)).isnan().all()
    with pytest.raises(RuntimeError):
        Backbone(net)(torch.rand(1, 3, side - 1, side))


def test_safetensors_and_folders_are_read(weights: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(torch.load(weights, weights_only=True), folder / "model.safetensors")
    preds, target = images()
    assert torch.equal(LPIPS(folder).score(preds, target), LPIPS(weights).score(preds, target))
    described = LPIPS(folder).describe()
    assert described["weights_sha256"] == LPIPS(weights).describe()["weights_sha256"]
    assert (described["net"], described["version"], described["higher_is_better"]) == ("alex", "0.1", False)


@pytest.mark.parametrize("weights", ["alex"], indirect=True)
def test_scores_do_not_depend_on_the_batch(weights: Path) -> None:
    preds, target = images()
    metric = LPIPS(weights)
    one_by_one = torch.cat([metric.score(preds[index : index + 1], target[index : index + 1]) for index in range(2)])
    assert torch.equal(metric.score(preds, target), one_by_one)


def test_heads_come_with_torchmetrics() -> None:
    for net, widths in (("alex", [64, 192, 384, 256, 256]), ("vgg", [64, 128, 256, 512, 512])):
        heads = load_heads(net)
        assert [len(head) for head in heads] == widths
        assert min(float(head.min()) for head in heads) >= 0.0


def test_missing_heads_are_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(backbones, "files", lambda package: tmp_path)
    with pytest.raises(
        CheckpointError, match=r"lpips: expected the heads of alex in .* install torchmetrics 1.4 to 1.9"
    ):
        load_heads("alex")


REMEDY = r"fetch alexnet-owt-7be5be79.pth from https://download.pytorch.org/models/.* and give encoders.lpips=weights/"


def test_no_source_says_which_file_from_where() -> None:
    with pytest.raises(ConfigError, match=rf"encoders.lpips: expected a file or folder .* got nothing; {REMEDY}"):
        LPIPS().describe()
    with pytest.raises(ConfigError, match=r"lpips.net: expected one of alex, vgg, got 'squeeze'"):
        LPIPS("x", net="squeeze").describe()


def test_other_files_are_refused(weights: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=rf"got {tmp_path}/nothing, which is not there; {REMEDY}"):
        LPIPS(tmp_path / "nothing").describe()
    with pytest.raises(CheckpointError, match=r"expected features.0.weight of shape .* for vgg in .* got \(64, 3, 11"):
        LPIPS(weights, net="vgg").describe()
    torch.save([1], tmp_path / "list.pth")
    with pytest.raises(CheckpointError, match=rf"got 2 such files in the folder {tmp_path};"):
        LPIPS(tmp_path).describe()
    with pytest.raises(CheckpointError, match=r"expected features.0.weight of shape \(64, 3, 11, 11\) .* got none"):
        LPIPS(tmp_path / "list.pth").describe()
    (tmp_path / "text.pth").write_text("no weights")
    with pytest.raises(CheckpointError, match=r"encoders.lpips: .*text.pth can not be loaded"):
        LPIPS(tmp_path / "text.pth").describe()
