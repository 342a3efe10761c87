from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mgie_lit.checkpoints.exports import TINY_DIR
from mgie_lit.doctor.files import (
    Requirement,
    data_requirements,
    encoder_requirements,
    start_requirements,
    tokenizer_requirement,
)
from mgie_lit.prompts import SMALL_TOKENIZER_DIR


def by_key(needs: Any) -> dict[str, Requirement]:  # noqa: ANN401
    return {need.key: need for need in needs}


class TestStart:
    def test_null_means_random_weights(self) -> None:
        assert [need.state for need in start_requirements({"mllm": None, "diffusion": None})] == ["random", "random"]

    def test_an_export_has_everything_but_a_diffusers_autoencoder_of_its_own_is_read_too(self) -> None:
        needs = by_key(start_requirements({"mllm": str(TINY_DIR), "edit_head": str(TINY_DIR)}))
        assert {need.state for need in needs.values()} == {"here"}

    def test_diffusion_folder(self) -> None:
        assert start_requirements({"diffusion": str(TINY_DIR)})[0].state == "here"

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("name", "fault", "how"),
        [
            ("mllm", "expected a folder or file of weights, found nothing", "docs/models.md#llava"),
            ("edit_head", "expected a folder or file of weights, found nothing", "docs/models.md#mgie"),
            ("diffusion", "expected a pipeline folder with weights in unet/", "docs/models.md#stable-diffusion"),
            ("other", "expected a folder of weights, found nothing", "docs/models.md"),
        ],
    )
    def test_what_is_missing_says_how_to_get_it(self, name: str, fault: str, how: str, tmp_path: Path) -> None:
        need = start_requirements({name: str(tmp_path / "none")})[0]
        assert (need.key, need.state) == (f"size.start.{name}", "missing")
        assert need.fault.startswith(fault)
        assert need.how.startswith(how)

    @pytest.mark.faults
    def test_a_shard_that_is_missing_is_noticed(self, tmp_path: Path) -> None:
        folder = tmp_path / "llava"
        folder.mkdir()
        source = TINY_DIR / "mllm" / "diffusion_pytorch_model.safetensors"
        shutil.copy(source, folder / "model-00001-of-00002.safetensors")
        need = start_requirements({"mllm": str(folder)})[0]
        assert need.state == "missing"
        assert need.fault.startswith("1 of 2 shards are missing")


class TestTokenizer:
    def test_the_packages_own(self) -> None:
        assert tokenizer_requirement("small").state == "here"

    def test_a_folder(self) -> None:
        assert tokenizer_requirement(str(SMALL_TOKENIZER_DIR)).state == "here"

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("source", "fault"),
        [
            (None, "nothing is named"),
            ("no/such/folder", "there is no such folder"),
            ("{tmp}", "size.tokenizer.source: expected a folder or hub id with a tokenizer"),
        ],
    )
    def test_missing(self, source: str | None, fault: str, tmp_path: Path) -> None:
        need = tokenizer_requirement(None if source is None else source.format(tmp=tmp_path))
        assert need.state == "missing"
        assert need.fault.startswith(fault)


class TestData:
    def test_embedded_photographs_need_nothing(self) -> None:
        assert list(data_requirements({"root": None, "batch_size": 4}, "photo_edits_mixed")) == []

    def test_a_folder_and_raw_words(self, tmp_path: Path) -> None:
        needs = by_key(data_requirements({"root": str(tmp_path), "expressive": "instruction"}, "evr"))
        assert {key: need.state for key, need in needs.items()} == {"data.root": "here", "data.expressive": "here"}

    def test_files_of_expressive_instructions(self, tmp_path: Path) -> None:
        (tmp_path / "a.jsonl").touch()
        data = {"root": str(tmp_path), "expressive": [str(tmp_path / "a.jsonl"), "b.jsonl"]}
        need = by_key(data_requirements(data, "evr"))["data.expressive"]
        assert (need.state, need.fault) == ("missing", "there is no file b.jsonl")
        assert by_key(data_requirements(data | {"expressive": data["expressive"][:1]}, "evr"))[need.key].state == "here"

    def test_own_rows_may_bring_their_expressive_instructions(self, tmp_path: Path) -> None:
        needs = data_requirements({"root": str(tmp_path), "expressive": None}, "imagefolder")
        assert [need.key for need in needs] == ["data.root"]

    def test_what_data_lack_they_say_themselves_once_they_are_there(self, tmp_path: Path) -> None:
        needs = data_requirements({"root": str(tmp_path), "expressive": None}, "evr")
        assert [(need.key, need.state) for need in needs] == [("data.root", "here")]

    def test_a_set_on_the_hub(self) -> None:
        need = next(data_requirements({"root": "hf:osunlp/MagicBrush"}, "magicbrush"))
        assert need.state == "download"

    @pytest.mark.faults
    def test_parts_of_a_mixture_each_by_its_key(self) -> None:
        part = {"root": None, "expressive": None}
        needs = by_key(data_requirements({"reader": {"parts": part}, "ipr2pr": part, "evr": part}, "mixture"))
        assert list(needs) == ["data.ipr2pr.root", "data.ipr2pr.expressive", "data.evr.root", "data.evr.expressive"]
        assert needs["data.evr.root"].how == "docs/datasets.md#evr; data.evr.root=FOLDER"
        assert "data.evr.expressive=instruction" in needs["data.evr.expressive"].how

    @pytest.mark.faults
    def test_folder_that_is_not_there(self, tmp_path: Path) -> None:
        need = next(data_requirements({"root": str(tmp_path / "none")}, "gier"))
        assert (need.state, need.fault, need.how) == ("missing", "there is no such folder", "docs/datasets.md#gier")


class TestEncoders:
    def test_metrics_without_encoder_need_nothing(self) -> None:
        assert list(encoder_requirements({"l1": {"_target_": "x"}, "off": None})) == []

    def test_a_folder(self, tmp_path: Path) -> None:
        (tmp_path / "config.json").write_text("{}")
        assert next(encoder_requirements({"dino": {"encoder": {"source": str(tmp_path)}}})).state == "here"

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("source", "fault"),
        [
            (None, "nothing is named"),
            ("no/such/folder", "there is no such folder"),
            ("openai/clip", "there is no such"),
        ],
    )
    def test_missing(self, source: str | None, fault: str) -> None:
        need = next(encoder_requirements({"clip_i": {"encoder": {"source": source}}}))
        assert (need.key, need.state) == ("metrics.clip_i.encoder.source", "missing")
        assert need.fault.startswith(fault)
        assert need.how.startswith("docs/models.md#encoders")
