from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgie_lit.checkpoints.cards.card import Card
from mgie_lit.checkpoints.cards.files import write_card
from mgie_lit.checkpoints.cards.origins import Origin, apple_origin, combined_licence, origins_of, trained_origin

OURS = Origin("unet", "mine", None, "mine")


@pytest.mark.parametrize(
    ("name", "licence", "terms", "hub_id"),
    [
        ("LLaVA-Lightning-7B-delta-v1-1", "other", "research only", "liuhaotian/LLaVA-Lightning-7B-delta-v1-1"),
        ("llava-7b-v1", "other", "research only: the terms of LLaVA, Vicuna and GPT-4, and LLaMA's", None),
        ("vicuna-7b-delta-v1.1", "other", "LLaMA's licence: research, not commercial", "lmsys/vicuna-7b-delta-v1.1"),
        ("llama-7b", "other", "LLaMA's licence: research, not commercial", None),
        ("stable-diffusion-v1-5", "creativeml-openrail-m", "CreativeML OpenRAIL-M", None),
        (
            "instruct-pix2pix",
            "other",
            "MIT for the repository, and CreativeML OpenRAIL-M",
            "timbrooks/instruct-pix2pix",
        ),
        ("clip-vit-large-patch14", "other", "MIT for the code", "openai/clip-vit-large-patch14"),
        ("llava-1.5-7b-hf", "unknown", "unknown: the folder does not say", None),
        ("Llama-2-7b", "unknown", "unknown", None),
        ("my-weights", "unknown", "unknown", None),
    ],
)
def test_names_of_published_weights(name: str, licence: str, terms: str, hub_id: str | None, tmp_path: Path) -> None:
    (origin,) = origins_of(tmp_path / name, "mllm")
    assert (origin.part, origin.licence) == ("mllm", licence)
    assert origin.terms.startswith(terms)
    assert str(tmp_path) not in str(origin), "a path of this machine"
    if hub_id is not None:
        assert origin.hub_id == origin.source == hub_id


def test_a_config_names_the_repository(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "lmsys/vicuna-7b-delta-v1.1"}))
    (origin,) = origins_of(tmp_path, "mllm")
    assert (origin.hub_id, origin.evidence) == ("lmsys/vicuna-7b-delta-v1.1", "its name")
    (tmp_path / "config.json").write_text(json.dumps({"_name_or_path": "/home/somebody/llama"}))
    assert origins_of(tmp_path, "mllm")[0].licence == "unknown"


def test_a_folder_s_own_card_goes_before_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "llama-7b"
    folder.mkdir()
    (folder / "README.md").write_text("---\nlicense: other\nlicense_name: mine\n---\n# x\n")
    (origin,) = origins_of(folder, "mllm")
    assert (origin.licence, origin.terms, origin.evidence) == ("other", "other, mine", "its own card")


@pytest.mark.parametrize(
    "text", ["no front matter", "---\n: [\n---\n", "---\n- a\n---\n", "---\nlicense: [a]\n---\n", "\xff"]
)
def test_a_card_that_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_bytes(text.encode("latin-1"))
    assert origins_of(tmp_path, "unet")[0].licence == "unknown"


def test_origins_are_handed_on_by_an_export_s_card(tmp_path: Path) -> None:
    first = (apple_origin(), Origin("mllm", "x/y", "other", "some", "its name", "x/y"), trained_origin("unet"))
    write_card(tmp_path, Card("a", first).text())
    again = origins_of(tmp_path, "start")
    assert [one.part for one in again] == [f"start: {one.part}" for one in first]
    assert [(one.source, one.licence, one.terms, one.evidence, one.hub_id) for one in again] == [
        (one.source, one.licence, one.terms, one.evidence, one.hub_id) for one in first
    ]


def test_licences_together() -> None:
    openrail = Origin("unet", "a", "creativeml-openrail-m", "")
    unknown, llama = Origin("b", "b", "unknown", ""), Origin("c", "c", "other", "")
    assert combined_licence([]) is None
    assert combined_licence([OURS]) is None
    assert combined_licence([OURS, openrail]) == "creativeml-openrail-m"
    assert combined_licence([openrail, llama]) == "other"
    assert combined_licence([openrail, llama, unknown]) == "unknown"
