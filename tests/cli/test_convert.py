from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from huggingface_hub import ModelCard

from mgie_lit.checkpoints.cards.files import front_matter
from mgie_lit.checkpoints.conversion.combinations import COMBINATIONS, OPTIONS
from mgie_lit.checkpoints.runs import CONFIG_KEY, EMA_KEY
from mgie_lit.cli.main import main
from mgie_lit.config.build import build_editor, load_pipeline
from mgie_lit.config.compose import compose_config
from mgie_lit.config.loaded import describe_weights
from mgie_lit.config.runs import resolved
from mgie_lit.editor import Editor
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.testing import published_weights as published
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import tiny_editor

Mgie = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def editor() -> Editor:
    """With an edit head like ml-mgie's, of as many encoder as decoder layers."""
    editor = tiny_editor("kl", seed=1)
    assert isinstance(editor.guide, MLLMGuide)
    config = {**editor.guide.edit_head.config, "num_encoder_layers": 2, "num_decoder_layers": 2}
    editor.guide.edit_head = EditHead(**config).eval()
    return editor


@pytest.fixture
def sources(tmp_path: Path, editor: Editor) -> dict[str, Path]:
    """A folder of each published format."""
    assert isinstance(editor.guide, MLLMGuide)
    root, mllm = tmp_path / "sources", editor.guide.mllm
    clip = published.write_clip(root / "clip", mllm)
    return {
        "llava": published.write_llava(root / "llava", mllm, tower=clip, num_shards=2),
        "delta": published.write_llava(root / "delta", mllm, tower=Path("openai/clip")),
        "vision": clip,
        "base": write_language_model(root / "base", mllm),
        "instruct-pix2pix": published.write_pipeline(root / "ip2p", editor),
        "sd15": published.write_pipeline(root / "sd15", editor, in_channels=4),
        "apple": published.write_apple(root / "apple", editor, stored=torch.randn(1, 8, 40)),
    }


def write_language_model(folder: Path, mllm: MLLM) -> Path:
    """LLaMA's part of an MLLM, with a smaller vocabulary."""
    tensors = published.legacy_llava_tensors(mllm, num_rows=519, has_tower=False)
    published.write_shards(folder, {name: value for name, value in tensors.items() if "projector" not in name})
    return folder


@pytest.fixture
def run_dir(tmp_path: Path) -> Path:
    """A run directory with a checkpoint of ``size=tiny``."""
    config = compose_config("train", ["size=tiny", "sampler=few_steps"])
    editor = build_editor(config)
    with torch.no_grad():
        torch.nn.init.normal_(editor.unet.conv_out.weight, std=0.1)  # else it paints the source
    state = {f"editor.{name}": value for name, value in editor.state_dict().items()}
    folder = tmp_path / "run"
    (folder / "checkpoints").mkdir(parents=True)
    content = {"state_dict": state, "global_step": 3, CONFIG_KEY: resolved(config)}
    torch.save(content, folder / "checkpoints" / "step-00000003.ckpt")
    (folder / "config.yaml").write_text("")
    return folder


def convert(source: Path, dest: Path, kind: str, target: str, **options: Path | str) -> None:
    flags = [text for name, value in options.items() for text in (f"--{name}", str(value))]
    main(["convert", str(source), str(dest), "--from", kind, "--to", target, *flags])


@pytest.mark.parametrize(
    ("kind", "target", "needs", "holds"),
    [
        ("apple", "export", {"llava": "llava", "diffusion": "instruct-pix2pix"}, "model_index.json"),
        ("llava", "export", {}, "mllm/config.json"),
        ("delta", "export", {"base": "base", "vision": "vision"}, "mllm/config.json"),
        ("sd15", "export", {}, "unet/config.json"),
        ("sd15", "diffusers", {}, "model_index.json"),
        ("instruct-pix2pix", "export", {}, "autoencoder/config.json"),
    ],
)
def test_published_formats(
    kind: str,
    target: str,
    needs: dict[str, str],
    holds: str,
    sources: dict[str, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    dest = tmp_path / "dest"
    convert(sources[kind], dest, kind, target, **{option: sources[name] for option, name in needs.items()})
    assert (dest / holds).is_file()
    assert capsys.readouterr().out.splitlines()[-1] == str(dest)


def test_every_combination_is_tested_here() -> None:
    assert {(one.source, one.target) for one in COMBINATIONS} == {
        ("apple", "export"),
        ("llava", "export"),
        ("delta", "export"),
        ("sd15", "export"),
        ("sd15", "diffusers"),
        ("instruct-pix2pix", "export"),
        ("run", "export"),
        ("run", "apple"),
        ("run", "diffusers"),
    }


@pytest.mark.parametrize(
    ("kind", "needs", "origins"),
    [
        ("apple", {"llava": "llava", "diffusion": "instruct-pix2pix"}, ["apple/ml-mgie", "llava", "ip2p"]),
        ("llava", {"vision": "vision"}, ["llava", "clip"]),
        ("delta", {"base": "base", "vision": "vision"}, ["delta", "base", "clip"]),
        ("sd15", {}, ["sd15"]),
        ("instruct-pix2pix", {}, ["ip2p"]),
    ],
)
def test_every_export_has_a_card(
    kind: str, needs: dict[str, str], origins: list[str], sources: dict[str, Path], tmp_path: Path
) -> None:
    (sources["delta"] / "README.md").write_text("---\nlicense: mit\n---\n")
    dest = tmp_path / "dest"
    convert(sources[kind], dest, kind, "export", **{option: sources[name] for option, name in needs.items()})
    matter = front_matter(dest)
    assert [one["source"] for one in matter["mgie_parts"]] == origins
    assert matter["license"] == "unknown", "these folders do not say"
    assert ("pipeline_tag" in matter) == (kind == "apple")
    assert str(tmp_path) not in (dest / "README.md").read_text()


def test_a_card_has_the_numbers_of_an_evaluation_of_these_weights(run_dir: Path, tmp_path: Path) -> None:
    (file,) = (run_dir / "checkpoints").iterdir()
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    source = {"checkpoint": "x", "weights": "raw", "sha256": hashlib.sha256(file.read_bytes()).hexdigest()}
    summary = {"metrics": {"l1": {"mean": 0.25, "ci_low": 0.2, "ci_high": 0.3, "n": 4}}, "source": source}
    (evaluation / "metrics.json").write_text(json.dumps(summary))
    (run_dir / "overrides").write_text("- experiment=smoke\n- data.root=/home/somebody/photos\n- paths.run_dir=/a/b\n")
    (run_dir / "versions.json").write_text(json.dumps({"git_commit": "abc123", "git_dirty": False}))
    convert(run_dir, tmp_path / "export", "run", "export", metrics=evaluation)
    card = ModelCard.load(tmp_path / "export" / "README.md")
    assert [(one.metric_type, one.metric_value) for one in card.data.eval_results or []] == [("l1", 0.25)]
    assert card.data.model_name == "export"
    assert "| command | `mgie train experiment=smoke data.root=.../photos` |" in card.text
    assert "| commit | `abc123` |" in card.text
    assert "| steps | 3, " in card.text
    assert card.data.license is None, "whoever trained it chooses"

    (evaluation / "metrics.json").write_text(json.dumps(summary | {"source": source | {"sha256": "other"}}))
    with pytest.raises(SystemExit, match="2"):
        convert(run_dir, tmp_path / "other", "run", "export", metrics=evaluation)
    assert not (tmp_path / "other").exists()


def test_numbers_of_published_weights_need_an_evaluation_of_their_export(
    sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"llava": sources["llava"], "diffusion": sources["instruct-pix2pix"]}
    convert(sources["apple"], tmp_path / "first", "apple", "export", **options)
    evaluation = tmp_path / "evaluation"
    evaluation.mkdir()
    source = describe_weights("checkpoint", str(tmp_path / "first"))
    summary = {"metrics": {"l1": {"mean": 0.25, "n": 4}}, "source": source}
    (evaluation / "metrics.json").write_text(json.dumps(summary))
    convert(sources["apple"], tmp_path / "second", "apple", "export", metrics=evaluation, **options)
    assert front_matter(tmp_path / "second")["model-index"][0]["results"][0]["metrics"][0]["value"] == 0.25
    summary["source"] = {"checkpoint": "tiny"}
    (evaluation / "metrics.json").write_text(json.dumps(summary))
    with pytest.raises(SystemExit, match="2"):
        convert(sources["apple"], tmp_path / "third", "apple", "export", metrics=evaluation, **options)
    assert "--metrics: expected an evaluation of the weights of" in (error := capsys.readouterr().err)
    assert "which measured checkpoint tiny" in error
    assert not (tmp_path / "third").exists()


def test_a_run_edits_the_same_after_it_was_exported(run_dir: Path, tmp_path: Path) -> None:
    convert(run_dir, tmp_path / "export", "run", "export")
    images = []
    for pipeline in (load_pipeline(str(run_dir)), MGIEPipeline.from_pretrained(tmp_path / "export")):
        source = random_image(70, 50, seed=0)
        result = pipeline(source, "make it red", generator=torch.Generator().manual_seed(0))
        images.append(np.asarray(result.images[0]))
    assert np.array_equal(*images)
    assert not np.array_equal(images[0], np.asarray(source))


def test_a_run_is_converted_with_its_moving_average(run_dir: Path, tmp_path: Path) -> None:
    file = next((run_dir / "checkpoints").glob("*.ckpt"))
    content = torch.load(file, weights_only=True)
    zero = {"unet.conv_in.bias": torch.zeros_like(content["state_dict"]["editor.unet.conv_in.bias"])}
    torch.save(content | {EMA_KEY: {"decay": 0.9, "num_updates": 3, "weights": zero}}, file)
    found = {}
    for name, options in (("average", {}), ("raw", {"weights": "raw"})):
        convert(run_dir, tmp_path / name, "run", "diffusers", **options)
        convert(run_dir, tmp_path / f"{name}-apple", "run", "apple", **options)
        bias = UNet2DConditionModel.from_pretrained(tmp_path / name).conv_in.bias.detach()
        assert torch.equal(bias, torch.load(tmp_path / f"{name}-apple" / "unet.pt")["conv_in.bias"])
        found[name] = float(bias.abs().max())
    assert found["average"] == 0 < found["raw"]
    convert(run_dir, tmp_path / "export", "run", "export", weights="raw")
    with pytest.raises(SystemExit, match="2"):
        convert(tmp_path / "export", tmp_path / "x", "run", "apple", weights="raw")


def test_a_run_becomes_apples_files_and_a_unet(run_dir: Path, tmp_path: Path) -> None:
    file = next((run_dir / "checkpoints").glob("*.ckpt"))
    weights = torch.load(file)["state_dict"]
    convert(file, tmp_path / "apple", "run", "apple", dtype="half")
    mllm = torch.load(tmp_path / "apple" / "mllm.pt")
    assert torch.equal(mllm["edit_head.query"], weights["editor.guide.edit_head.query"].half())
    convert(run_dir, tmp_path / "unet", "run", "diffusers")
    assert (tmp_path / "unet" / "diffusion_pytorch_model.safetensors").is_file()
    assert json.loads((tmp_path / "unet" / "config.json").read_text())["_class_name"] == "UNet2DConditionModel"


def test_the_unet_of_a_published_folder_comes_back(sources: dict[str, Path], tmp_path: Path) -> None:
    """InstructPix2Pix to an export of parts, and from there to diffusers."""
    convert(sources["instruct-pix2pix"], tmp_path / "export", "instruct-pix2pix", "export")
    convert(tmp_path / "export", tmp_path / "unet", "run", "diffusers")
    there, back = (
        UNet2DConditionModel.from_pretrained(folder).state_dict()
        for folder in (sources["instruct-pix2pix"] / "unet", tmp_path / "unet")
    )
    assert there.keys() == back.keys()
    assert all(torch.equal(there[name], back[name]) for name in there)


def test_an_export_becomes_apples_files_and_a_unet(sources: dict[str, Path], tmp_path: Path) -> None:
    options = {"llava": sources["llava"], "diffusion": sources["instruct-pix2pix"]}
    convert(sources["apple"], tmp_path / "export", "apple", "export", **options)
    convert(tmp_path / "export", tmp_path / "apple", "run", "apple")
    there, back = (torch.load(folder / "unet.pt") for folder in (sources["apple"], tmp_path / "apple"))
    assert there.keys() == back.keys()
    assert all(torch.equal(there[name], back[name]) for name in there)
    convert(tmp_path / "export", tmp_path / "unet", "run", "diffusers")
    assert (tmp_path / "unet" / "config.json").is_file()


@pytest.mark.faults
class TestFaults:
    def test_combinations_without_sense_are_refused_with_those_that_have(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            convert(tmp_path, tmp_path / "dest", "llava", "apple")
        error = capsys.readouterr().err
        assert "--from llava --to apple: there is no such conversion; expected one of" in error
        assert all(str(combination) in error for combination in COMBINATIONS)

    @pytest.mark.parametrize(
        ("kind", "target", "given", "message"),
        [
            ("apple", "export", ["llava"], "expected --diffusion DIR as well. The whole is: --from apple --to export"),
            ("apple", "export", [], "expected --llava DIR as well; expected --diffusion DIR as well"),
            ("delta", "export", [], "expected --base DIR as well"),
            ("llava", "export", ["base"], "--base has no effect here; leave it out"),
            ("sd15", "export", ["vision", "llava"], "--llava has no effect here; leave it out; --vision has no effect"),
        ],
    )
    def test_options_that_are_missing_or_idle(
        self,
        kind: str,
        target: str,
        given: list[str],
        message: str,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            convert(tmp_path, tmp_path / "dest", kind, target, **dict.fromkeys(given, tmp_path))
        assert message in capsys.readouterr().err

    def test_sources_that_are_not_there_are_all_named(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit, match="2"):
            convert(tmp_path / "a", tmp_path / "dest", "delta", "export", base=tmp_path / "b")
        error = capsys.readouterr().err
        assert f"SOURCE: expected a folder or file, found nothing at {tmp_path / 'a'}" in error
        assert f"--base: expected a folder or file, found nothing at {tmp_path / 'b'}" in error

    def test_a_destination_with_files(
        self, sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            convert(sources["llava"], tmp_path, "llava", "export")
        assert "expected a new or empty folder, got one with files; name another" in capsys.readouterr().err

    def test_an_export_is_no_run(
        self, sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        with pytest.raises(SystemExit, match="2"):
            convert(sources["instruct-pix2pix"], tmp_path / "dest", "run", "export")
        assert "expected a run directory or a .ckpt file, got an export folder already" in capsys.readouterr().err

    def test_a_malicious_file_is_a_message(
        self, sources: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        torch.save(torch.nn.Linear(2, 2), sources["apple"] / "unet.pt")
        options = {"llava": sources["llava"], "diffusion": sources["sd15"]}
        with pytest.raises(SystemExit, match="2"):
            convert(sources["apple"], tmp_path / "dest", "apple", "export", **options)
        captured = capsys.readouterr()
        assert (captured.out, "unet.pt: refused" in captured.err) == ("", True)
        assert not (tmp_path / "dest").exists()


def test_help_names_all_and_imports_no_torch(mgie: Mgie) -> None:
    result = mgie("convert", "--help")
    assert result.returncode == 0
    assert all(str(combination) in result.stdout for combination in COMBINATIONS)
    assert all(f"--{option}" in result.stdout for option in OPTIONS)
    code = "import sys, mgie_lit.cli.convert as c; c._parser().format_help(); assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
