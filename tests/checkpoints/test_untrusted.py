"""Folders that somebody else made: what would run something is refused, and nothing of it has run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.cli.main import main
from mgie_lit.config.build import load_pipeline
from mgie_lit.errors import CheckpointError
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.prompts import load_text_tokenizer, load_tokenizer
from mgie_lit.testing.random_data import random_image

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore:Detected pickle protocol")]
NOTHING_RUN = "nothing in the folder was run; get an export of safetensors"


class Payload:
    """Makes a folder when it is unpickled by an unwary reader."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture
def canary(tmp_path: Path) -> Path:
    """Is there once something of the folder has run."""
    return tmp_path / "canary"


@pytest.fixture
def export(tmp_path: Path) -> Path:
    folder = tmp_path / "export"
    shutil.copytree(TINY_DIR, folder)
    return folder


def code(canary: Path) -> str:
    return f"import os\nos.mkdir({str(canary)!r})\nclass Part:\n    pass\nclass MyPipeline:\n    pass\n"


def change(path: Path, **changes: Any) -> None:  # noqa: ANN401
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_canary_sings(canary: Path, tmp_path: Path) -> None:
    torch.save(Payload(canary), tmp_path / "a.pt")
    torch.load(tmp_path / "a.pt", weights_only=False)
    assert canary.exists()
    canary.rmdir()
    exec(code(canary))
    assert canary.exists()


@pytest.mark.parametrize(
    "name", ["pytorch_model.bin", "unet/diffusion_pytorch_model.bin", "mllm/weights.pt", "last.ckpt", "a/b/c/x.PKL"]
)
def test_pickles(name: str, export: Path, canary: Path) -> None:
    file = export / name
    file.parent.mkdir(parents=True, exist_ok=True)
    torch.save(Payload(canary), file)
    with pytest.raises(CheckpointError, match=rf"got {name} \(a pickle\); {NOTHING_RUN}"):
        MGIEPipeline.from_pretrained(export)
    assert not canary.exists()


def test_a_pickle_in_place_of_safetensors(export: Path, canary: Path) -> None:
    (weights,) = (export / "edit_head").glob("*.safetensors")
    torch.save(Payload(canary), weights)
    with pytest.raises(CheckpointError, match="expected whole files of every part"):
        MGIEPipeline.from_pretrained(export)
    assert not canary.exists()


@pytest.mark.parametrize("name", ["pipeline.py", "unet/my_unet.py", "mllm/modeling.pyc"])
def test_code(name: str, export: Path, canary: Path) -> None:
    (export / name).write_text(code(canary))
    with pytest.raises(CheckpointError, match=rf"got {name} \(code\); {NOTHING_RUN}"):
        MGIEPipeline.from_pretrained(export)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("part", "shown"),
    [
        (["my_unet", "Part"], r"unet of my_unet\.Part"),
        (["os", "system"], r"unet of os\.system"),
        (["mgie_lit.cli.main", "main"], r"unet of mgie_lit\.cli\.main\.main"),
        (["diffusers.utils", "Part"], r"unet of diffusers\.utils\.Part"),
        (["..evil", "Part"], r"unet of \.\.evil\.Part"),
        ([["diffusers"], "Part"], r"unet of"),
        (["diffusers"], "unet of diffusers"),
    ],
)
def test_parts_of_other_modules(part: list[Any], shown: str, export: Path, canary: Path) -> None:
    change(export / "model_index.json", unet=part)
    with pytest.raises(CheckpointError, match=rf"model_index\.json: {shown}"):
        MGIEPipeline.from_pretrained(export)
    (export / "unet" / "my_unet.py").write_text(code(canary))
    with pytest.raises(CheckpointError, match=rf"my_unet\.py \(code\); model_index\.json: {shown}.*; {NOTHING_RUN}"):
        MGIEPipeline.from_pretrained(export)
    assert not canary.exists()


def test_a_pipeline_of_the_folder_s_own(export: Path, canary: Path) -> None:
    (export / "my_pipeline.py").write_text(code(canary))
    change(export / "model_index.json", _class_name=["my_pipeline", "MyPipeline"])
    with pytest.raises(CheckpointError, match=r"expected the index of a MGIEPipeline, got \['my_pipeline'"):
        MGIEPipeline.from_pretrained(export)
    assert not canary.exists()


@pytest.mark.parametrize(
    ("file", "key", "value"),
    [
        ("mllm/config.json", "auto_map", {"AutoModel": "modeling.Part"}),
        ("tokenizer/tokenizer_config.json", "auto_map", {"AutoTokenizer": ["someone/else--tok.Part", None]}),
        ("image_processor/preprocessor_config.json", "auto_map", {"AutoImageProcessor": "x.Part"}),
        ("unet/config.json", "trust_remote_code", True),
        ("model_index.json", "custom_pipeline", "someone/else"),
    ],
)
def test_settings_that_ask_for_code(file: str, key: str, value: object, export: Path) -> None:
    change(export / file, **{key: value})
    with pytest.raises(CheckpointError, match=rf"got {file}: {key}; {NOTHING_RUN}"):
        MGIEPipeline.from_pretrained(export)


@pytest.mark.parametrize(
    "options", [{"custom_pipeline": "x/y"}, {"trust_remote_code": True}, {"use_safetensors": False}]
)
def test_options_that_ask_for_code(options: dict[str, Any]) -> None:
    with pytest.raises(
        CheckpointError, match=f"{next(iter(options))}.*: expected nothing of the kind, an export holds"
    ):
        MGIEPipeline.from_pretrained("tiny", **options)
    MGIEPipeline.from_pretrained("tiny", trust_remote_code=False, use_safetensors=True)


def test_all_is_named_at_once_and_commands_exit_with_2(
    export: Path, canary: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(Payload(canary), export / "model.bin")
    (export / "a.py").write_text(code(canary))
    with pytest.raises(CheckpointError, match=r"got a\.py \(code\); model\.bin \(a pickle\); nothing"):
        load_pipeline(str(export))
    random_image(8, 8, seed=0).save(tmp_path / "x.png")
    with pytest.raises(SystemExit, match="2"):
        main(["edit", str(tmp_path / "x.png"), "warmer", "--model", str(export)])
    assert "refused, expected configs and safetensors without code" in capsys.readouterr().err
    assert not canary.exists()


@pytest.mark.parametrize("load", [load_tokenizer, load_text_tokenizer])
def test_a_tokenizer_with_code_of_its_own(load: Any, canary: Path, tmp_path: Path) -> None:  # noqa: ANN401
    (tmp_path / "tokenizer").mkdir()
    (tmp_path / "tokenizer" / "tok.py").write_text(code(canary))
    content = {"auto_map": {"AutoTokenizer": ["tok.Part", None]}, "tokenizer_class": "Part"}
    (tmp_path / "tokenizer" / "tokenizer_config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected a folder or hub id with a tokenizer"):
        load(str(tmp_path))
    assert not canary.exists()
