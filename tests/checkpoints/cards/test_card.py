from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.data_sets import data_sets_of, known_data_sets
from mgie_lit.checkpoints.cards.origins import Origin, apple_origin, origins_of, trained_origin
from mgie_lit.checkpoints.cards.results import Results
from mgie_lit.errors import CheckpointError

SUMMARY: dict[str, Any] = {
    "metrics": {
        "l1": {"mean": 0.0241234, "ci_low": 0.0211, "ci_high": 0.0269, "n": 400},
        "psnr": {"mean": 31.4, "ci_low": None, "ci_high": None, "n": 1},
        "dino": {"mean": None, "n": 0},
    },
    "copy": {"l1": {"mean": 0.152, "ci_low": 0.15, "ci_high": 0.16}},
    "paired_vs_copy": {"l1": {"mean": -0.1289, "ci_low": -0.141, "ci_high": -0.113}},
    "protocol": {
        "data": {"reader": {"_target_": "mgie_lit.data.readers.magicbrush.MagicBrush"}},
        "split": "test",
        "seeds": [0, 1],
        "num_samples": 400,
        "sampling": {"num_inference_steps": 4},
    },
    "source": {"checkpoint": "runs/a", "sha256": "ab"},
}


def card_of(text: str) -> ModelCard:
    return ModelCard(text)


def test_the_hub_reads_all_of_it() -> None:
    origins = (apple_origin(), *origins_of(Path("stable-diffusion-v1-5"), "unet"), trained_origin("edit head"))
    data = known_data_sets("ipr2pr", "magicbrush", "ma5k")
    card = card_of(Card("mine", origins, data=tuple(data), results=(Results(SUMMARY, "0123456789abcdef"),)).text())
    assert card.data.library_name == "diffusers"
    assert card.data.pipeline_tag == "image-to-image"
    assert (card.data.license, card.data.license_name, card.data.license_link) == (
        "other",
        "terms-of-the-parts",
        "README.md",
    )
    assert card.data.datasets == ["timbrooks/instructpix2pix-clip-filtered", "osunlp/MagicBrush"]
    assert card.data.base_model == ["stable-diffusion-v1-5/stable-diffusion-v1-5"]
    assert card.data.model_name == "mine"
    assert [(one.metric_type, one.metric_value, one.metric_args) for one in card.data.eval_results or []] == [
        ("l1", 0.0241234, {"ci_low": 0.0211, "ci_high": 0.0269, "n": 400}),
        ("psnr", 31.4, {"n": 1}),
    ]
    (first, _) = card.data.eval_results or []
    assert (first.task_type, first.dataset_type, first.dataset_name, first.dataset_split) == (
        "image-to-image",
        "osunlp/MagicBrush",
        "magicbrush",
        "test",
    )


def test_numbers_have_their_intervals() -> None:
    text = Card("a", results=(Results(SUMMARY, "0123456789abcdef"),)).text()
    row = "| `l1` | 0.02412 [0.0211, 0.0269] | 0.152 [0.15, 0.16] | -0.1289 [-0.141, -0.113] |"
    assert row in text
    assert "| `psnr` | 31.4 | - | - |" in text
    assert "| `dino` | - | - | - |" in text
    assert "\nsplit `test` of `magicbrush`, 400 samples, seeds 0, 1, commit `0123456789`. In brackets" in text


def test_numbers_of_training_examples_are_told_apart() -> None:
    text = "The splits train, val, test are the same examples: nothing is said about new pictures."
    shared = SUMMARY | {"protocol": SUMMARY["protocol"] | {"shared_splits": ["train", "val", "test"]}}
    assert text in Card("a", results=(Results(shared, "0"),)).text()
    assert text not in Card("a", results=(Results(SUMMARY, "0"),)).text()


def test_what_is_not_known_is_said() -> None:
    text = Card("a").text()
    card = card_of(text)
    assert card.data.license is card.data.datasets is card.data.eval_results is card.data.base_model is None
    assert "None was measured for this card" in text
    assert "what their owners allow, is not recorded" in text
    assert "Not recorded: these weights were not made from a run" in text
    unknown = Card("a", tuple(origins_of(Path("x"), "unet"))).text()
    assert card_of(unknown).data.license == "unknown"


def test_parts_alone_are_no_pipeline() -> None:
    card = card_of(Card("a", (Origin("unet", "x", "mit", "MIT"),), is_pipeline=False).text())
    assert card.data.pipeline_tag is None
    assert card.data.license == "mit"
    assert "no whole pipeline" in card.text
    assert "MGIEPipeline" not in card.text


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "--metrics: expected the directory of a finished evaluation, with metrics.json, got"),
        ("{", "metrics.json: expected a JSON file"),
        ("{}", "metrics.json: expected numbers under 'metrics', found none; make one with mgie eval"),
    ],
)
def test_a_folder_without_numbers(content: str | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(CheckpointError, match=message):
        Results.read(tmp_path)


def test_results_are_read(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(json.dumps(SUMMARY))
    assert Results.read(tmp_path).commit == ""
    (tmp_path / "versions.json").write_text(json.dumps({"git_commit": "abc"}))
    (tmp_path / "overrides").write_text(
        "- data=x\n- data.root=/home/me/set\n- encoders.clip=~/clip\n- paths.run_dir=/a\n"
    )
    assert Results.read(tmp_path) == Results(SUMMARY, "abc", ("data=x", "data.root=.../set", "encoders.clip=.../clip"))
    assert {one.dataset_config for one in Results.read(tmp_path).eval_results()} == {"data=x data.root=.../set"}
    text = Results.read(tmp_path).table()
    assert text.startswith("`mgie eval data=x data.root=.../set encoders.clip=.../clip`: split `test`")
    (tmp_path / "overrides").write_text("{")
    assert Results.read(tmp_path).overrides is None


def test_data_sets_of_a_config() -> None:
    def reader(name: str) -> dict[str, Any]:
        return {"_target_": f"mgie_lit.data.readers.{name}.X", "root": "/a"}

    mixture = {"reader": {"_target_": "mgie_lit.data.mixture.M", "parts": {"a": reader("ipr2pr"), "b": reader("own")}}}
    assert [one.name for one in data_sets_of(mixture)] == ["ipr2pr", "own"]
    assert data_sets_of({"reader": reader("photo_edits"), "root": None})[0].licence.endswith("scikit-learn")
    assert data_sets_of({"reader": reader("photo_edits"), "root": "/a"})[0].licence.endswith("whoever trained it")
    assert data_sets_of(None) == []
