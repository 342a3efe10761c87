from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from mgie_lit.checkpoints.loading import load_mllm
from mgie_lit.checkpoints.mllm_source import open_mllm
from mgie_lit.errors import CheckpointError
from mgie_lit.models.mllm import MLLM
from mgie_lit.testing import published_weights as published

PREFIXES = ("model.vision_tower.vision_model.", "model.vision_tower.vision_tower.vision_model.")


def with_tower(mllm: MLLM, **sizes: int) -> MLLM:
    """The same kind of MLLM with another vision tower."""
    arguments = {key: value for key, value in mllm.config.items() if not key.startswith("_")}
    other: MLLM = MLLM(**{**arguments, "vision": {**arguments["vision"], **sizes}})
    return other.eval()


def write_llava(folder: Path, mllm: MLLM, tower: str, prefix: str = PREFIXES[0]) -> Path:
    """Legacy LLaVA with the tower among its weights, and the name of a CLIP in the place of its sizes."""
    tensors = published.legacy_llava_tensors(mllm)
    published.write_shards(folder, {name.replace(PREFIXES[0], prefix): value for name, value in tensors.items()})
    (folder / "config.json").write_text(json.dumps(published.legacy_llava_config(mllm, mm_vision_tower=tower)))
    return folder


def write_clip_config(folder: Path, mllm: MLLM, *, is_whole: bool = True) -> Path:
    """A CLIP folder without weights."""
    vision: dict[str, Any] = {"model_type": "clip_vision_model", **mllm.config["vision"]}
    folder.mkdir(parents=True)
    config = {"model_type": "clip", "vision_config": vision} if is_whole else vision
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("prefix", PREFIXES)
@pytest.mark.parametrize("is_whole", [True, False])
@pytest.mark.parametrize("is_relative", [True, False])
@pytest.mark.parametrize(("width", "heads"), [(32, 2), (128, 4)])
def test_a_tower_inside_has_the_heads_of_the_named_config(
    width: int, heads: int, is_relative: bool, is_whole: bool, prefix: str, tmp_path: Path, mllm: MLLM
) -> None:
    theirs = with_tower(mllm, hidden_size=width, num_attention_heads=heads)
    folder = tmp_path / "llava"
    clip = write_clip_config(folder / "clip" if is_relative else tmp_path / "clip", theirs, is_whole=is_whole)
    write_llava(folder, theirs, "clip" if is_relative else str(clip), prefix)
    config = open_mllm(folder).config()
    assert {key: config["vision"][key] for key in theirs.config["vision"]} == theirs.config["vision"]
    assert config["vision"]["num_attention_heads"] == heads != width // 64


def test_the_named_heads_give_the_image_features(tmp_path: Path, mllm: MLLM) -> None:
    theirs = with_tower(mllm, hidden_size=128, num_attention_heads=4)
    assert theirs.vision_tower is not None
    for parameter in theirs.vision_tower.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    folder = write_llava(tmp_path / "llava", theirs, str(write_clip_config(tmp_path / "clip", theirs)))
    source = open_mllm(folder)
    loaded: MLLM = MLLM(**source.config(), image_patch_id=theirs.image_patch_id).eval()
    load_mllm(loaded, folder)
    assert loaded.vision_tower is not None
    size = theirs.config["vision"]["image_size"]
    pixels = torch.randn(1, 3, size, size)
    with torch.no_grad():
        got, expected = (one.vision_tower(pixels).last_hidden_state for one in (loaded, theirs))
    torch.testing.assert_close(got, expected)


def test_a_named_hub_id_is_looked_up_in_the_cache(tmp_path: Path, mllm: MLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = with_tower(mllm, hidden_size=128, num_attention_heads=4)
    repo = tmp_path / "hub" / "models--someone--clip"
    write_clip_config(repo / "snapshots" / ("a" * 40), theirs)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    folder = write_llava(tmp_path / "llava", theirs, "someone/clip")
    assert open_mllm(folder).config()["vision"]["num_attention_heads"] == 4


@pytest.mark.parametrize("name", ["", "someone/clip", "/no/such/folder"])
def test_heads_of_width_64_where_no_config_is_found(
    name: str, tmp_path: Path, mllm: MLLM, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    theirs = with_tower(mllm, hidden_size=128, num_attention_heads=2)
    assert open_mllm(write_llava(tmp_path / "llava", theirs, name)).config()["vision"]["num_attention_heads"] == 2


def test_a_given_tower_goes_before_the_named_one(tmp_path: Path, mllm: MLLM) -> None:
    named = write_clip_config(tmp_path / "named", with_tower(mllm, hidden_size=128, num_attention_heads=4))
    theirs = with_tower(mllm, hidden_size=128, num_attention_heads=8)
    given = write_clip_config(tmp_path / "given", theirs)
    folder = write_llava(tmp_path / "llava", theirs, str(named))
    assert open_mllm(folder, vision=given).config()["vision"]["num_attention_heads"] == 8


@pytest.mark.faults
class TestFaults:
    def test_a_narrow_tower_without_config(self, tmp_path: Path, mllm: MLLM) -> None:
        theirs = with_tower(mllm, hidden_size=32, num_attention_heads=2)
        folder = write_llava(tmp_path / "llava", theirs, "/no/such/folder")
        with pytest.raises(CheckpointError, match=r"a width that is a multiple of 64 .*got 32.*--vision"):
            open_mllm(folder).config()

    def test_a_named_tower_of_another_kind(self, tmp_path: Path, mllm: MLLM) -> None:
        theirs = with_tower(mllm, hidden_size=128, num_attention_heads=4)
        (tmp_path / "siglip").mkdir()
        (tmp_path / "siglip" / "config.json").write_text(json.dumps({"model_type": "siglip_vision_model"}))
        folder = write_llava(tmp_path / "llava", theirs, str(tmp_path / "siglip"))
        with pytest.raises(CheckpointError, match=r"siglip.config\.json: expected CLIP's vision tower, got .*siglip"):
            open_mllm(folder).config()
