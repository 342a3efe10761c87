from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor

from mgie_lit.checkpoints.conversion.apple import convert_apple
from mgie_lit.checkpoints.conversion.mllm import convert_llava
from mgie_lit.checkpoints.loading import load_apple, load_autoencoder, load_edit_head, load_mllm, load_unet
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.edit_head import EditHead
from mgie_lit.models.mllm import MLLM
from mgie_lit.models.unet import widen_conv_in
from mgie_lit.testing import published_weights as published
from mgie_lit.testing.tiny_models import tiny_edit_head, tiny_kl_autoencoder, tiny_mllm, tiny_unet

WORDS = ("language_model.model.embed_tokens.weight", "language_model.lm_head.weight")


def assert_equal(left: Mapping[str, Tensor], right: Mapping[str, Tensor], *, but: tuple[str, ...] = ()) -> None:
    assert left.keys() == right.keys()
    assert [name for name in left if name not in but and not torch.equal(left[name], right[name])] == []


def copied(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_legacy_llava_fills_an_mllm_and_its_extra_rows_stay(
    suffix: str, tmp_path: Path, mllm: MLLM, other_mllm: MLLM
) -> None:
    clip = published.write_clip(tmp_path / "clip", mllm, suffix=suffix)
    folder = published.write_llava(
        tmp_path / "llava", mllm, tower=clip, num_rows=504, suffix=suffix, stem="model", num_shards=3
    )
    before = copied(other_mllm)
    load_mllm(other_mllm, folder)
    assert_equal(other_mllm.state_dict(), mllm.state_dict(), but=WORDS)
    for name in WORDS:
        assert torch.equal(other_mllm.state_dict()[name][:504], mllm.state_dict()[name][:504])
        assert torch.equal(other_mllm.state_dict()[name][504:], before[name][504:])
        assert not torch.equal(before[name][504:], mllm.state_dict()[name][504:])


def test_a_tower_inside_and_one_named_by_the_caller(tmp_path: Path, mllm: MLLM, other_mllm: MLLM) -> None:
    load_mllm(other_mllm, published.write_llava(tmp_path / "inside", mllm))
    assert_equal(other_mllm.state_dict(), mllm.state_dict())
    outside = published.write_llava(tmp_path / "outside", mllm, tower=Path("openai/clip"))
    fresh = tiny_mllm(other_mllm.image_patch_id)
    load_mllm(fresh, outside, vision=published.write_clip(tmp_path / "clip", mllm))
    assert_equal(fresh.state_dict(), mllm.state_dict())


def test_an_mllm_without_eyes_takes_the_words_alone(llava: Path, mllm: MLLM) -> None:
    blind = tiny_mllm(None, has_vision=False)
    load_mllm(blind, llava)
    names = {name: value for name, value in mllm.state_dict().items() if name in blind.state_dict()}
    assert_equal(blind.state_dict(), names, but=WORDS)
    assert torch.equal(blind.word_embeddings[:504], mllm.word_embeddings[:504])


def test_half_precision_is_converted(tmp_path: Path, mllm: MLLM, other_mllm: MLLM) -> None:
    load_mllm(other_mllm, published.write_llava(tmp_path / "half", mllm.half()))
    assert other_mllm.dtype == torch.float32
    assert_equal(other_mllm.state_dict(), {name: value.float() for name, value in mllm.state_dict().items()})


def test_an_exported_part_is_a_start(tmp_path: Path, llava: Path, mllm: MLLM, other_mllm: MLLM) -> None:
    convert_llava(llava, tmp_path / "export")
    load_mllm(other_mllm, tmp_path / "export")
    assert_equal(other_mllm.state_dict(), mllm.state_dict(), but=WORDS)
    fresh = tiny_mllm(other_mllm.image_patch_id)
    load_mllm(fresh, tmp_path / "export" / "mllm")
    assert torch.equal(fresh.word_embeddings[:504], mllm.word_embeddings[:504])


def test_a_tied_head_is_the_table(tmp_path: Path, mllm: MLLM) -> None:
    tied = MLLM({**mllm.config["language"], "tie_word_embeddings": True})
    tensors = published.legacy_llava_tensors(mllm, has_tower=False)
    tensors = {name: value for name, value in tensors.items() if "projector" not in name and name != "lm_head.weight"}
    published.write_shards(tmp_path, tensors)
    (tmp_path / "config.json").write_text("{}")
    load_mllm(tied, tmp_path)
    assert torch.equal(tied.state_dict()[WORDS[1]], mllm.word_embeddings)


@pytest.mark.parametrize("suffix", [".bin", ".safetensors"])
def test_a_text_to_image_unet_is_widened(suffix: str, tmp_path: Path, editor: Editor) -> None:
    folder = published.write_pipeline(tmp_path / "sd15", editor, in_channels=4, suffix=suffix)
    unet, expected = tiny_unet(4, 4), tiny_unet(2, 4)
    load_unet(unet, folder)
    expected.load_state_dict({**editor.unet.state_dict(), "conv_in.weight": editor.unet.conv_in.weight[:, :4]})
    widen_conv_in(expected, 8)
    assert_equal(unet.state_dict(), expected.state_dict())
    assert unet.conv_in.weight[:, 4:].abs().max() == 0
    assert torch.equal(unet.conv_in.bias, editor.unet.conv_in.bias)


@pytest.mark.parametrize("place", ["", "unet", "unet/diffusion_pytorch_model.bin"])
def test_a_unet_is_found(place: str, pipeline_folder: Path, editor: Editor) -> None:
    unet = tiny_unet(4, 4)
    load_unet(unet, pipeline_folder / place)
    assert_equal(unet.state_dict(), editor.unet.state_dict())


@pytest.mark.parametrize("is_convolution", [True, False])
def test_an_autoencoder_with_diffusers_first_names(is_convolution: bool, tmp_path: Path, editor: Editor) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = dict(editor.autoencoder.state_dict())
    for new_name, old_name in old.items():
        tensors = {name.replace(f".{new_name}.", f".{old_name}."): value for name, value in tensors.items()}
    if is_convolution:
        tensors = {
            name: value[:, :, None, None] if value.ndim == 2 and ".attentions." in name else value
            for name, value in tensors.items()
        }
    assert tensors.keys() != editor.autoencoder.state_dict().keys()
    published.write_shards(tmp_path / "vae", tensors, stem="diffusion_pytorch_model")
    autoencoder = tiny_kl_autoencoder()
    load_autoencoder(autoencoder, tmp_path)
    assert_equal(autoencoder.state_dict(), editor.autoencoder.state_dict())


@pytest.mark.parametrize("has_stored", [True, False])
@pytest.mark.parametrize("has_place", [True, False])
def test_apples_files_go_over_an_editor(
    has_stored: bool, has_place: bool, tmp_path: Path, editor: Editor, other_editor: Editor
) -> None:
    stored = torch.randn(1, 8, 40) if has_stored else None
    folder = published.write_apple(tmp_path / "apple", editor, stored=stored)
    guide = other_editor.guide
    assert isinstance(guide, MLLMGuide)
    assert isinstance(editor.guide, MLLMGuide)
    if has_place:
        guide.edit_head = EditHead(**{**tiny_edit_head().config, "num_stored_embeddings": 8})
    before = copied(guide.mllm)
    load_apple(other_editor, folder)
    assert_equal(other_editor.unet.state_dict(), editor.unet.state_dict())
    head = {name: value for name, value in guide.edit_head.state_dict().items() if name != "stored_embeddings"}
    assert_equal(head, editor.guide.edit_head.state_dict())
    for name in WORDS:
        assert torch.equal(guide.mllm.state_dict()[name], editor.guide.mllm.state_dict()[name])
    assert_equal(guide.mllm.state_dict(), before, but=WORDS)
    if has_place:
        expected = editor.guide.mllm.word_embeddings[-8:] if stored is None else stored[0]
        assert guide.edit_head.stored_embeddings is not None
        assert torch.equal(guide.edit_head.stored_embeddings, expected)


def test_an_edit_head_from_apples_file_and_from_an_export(
    tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
) -> None:
    assert isinstance(editor.guide, MLLMGuide)
    depth = {"num_encoder_layers": 2, "num_decoder_layers": 2}  # as many of each, as ml-mgie's
    config = {**tiny_edit_head().config, **depth}
    editor.guide.edit_head = EditHead(**config).eval()
    folder = published.write_apple(tmp_path / "apple", editor)
    convert_apple(folder, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
    for source in (folder, tmp_path / "export", tmp_path / "export" / "edit_head"):
        head = EditHead(**config)
        load_edit_head(head, source)
        assert_equal(head.state_dict(), editor.guide.edit_head.state_dict())


@pytest.mark.faults
class TestFaults:
    def test_nothing_changes_where_something_does_not_fit(self, tmp_path: Path, mllm: MLLM, other_mllm: MLLM) -> None:
        tensors = published.legacy_llava_tensors(mllm)
        del tensors["model.layers.0.mlp.up_proj.weight"], tensors["model.layers.1.mlp.up_proj.weight"]
        tensors["model.norm.weight"] = torch.ones(3)
        tensors["model.extra.weight"] = torch.ones(2)
        published.write_shards(tmp_path, tensors)
        before = copied(other_mllm)
        with pytest.raises(CheckpointError) as caught:
            load_mllm(other_mllm, tmp_path)
        assert str(caught.value).splitlines()[1:] == [
            "missing (2):",
            "  mllm: model.layers.{0-1}.mlp.up_proj.weight (2)",
            "unexpected (1):",
            "  mllm: model.extra.weight (2,)",
            "wrong shape (1):",
            "  mllm: model.norm.weight has shape (3,) instead of (40,)",
        ]
        assert_equal(other_mllm.state_dict(), before)

    def test_a_larger_vocabulary_does_not_fit(self, tmp_path: Path, mllm: MLLM) -> None:
        small = MLLM({**mllm.config["language"], "vocab_size": 520})
        published.write_shards(tmp_path, published.legacy_llava_tensors(mllm, has_tower=False))
        (tmp_path / "config.json").write_text('{"mm_vision_tower": ""}')
        with pytest.raises(CheckpointError, match="expected a vision tower among the weights or mm_vision_tower"):
            load_mllm(small, tmp_path)
        with pytest.raises(CheckpointError, match=r"lm_head\.weight has shape \(530, 40\) instead of \(520, 40\)"):
            load_mllm(small, published.write_llava(tmp_path / "whole", mllm))

    def test_a_tower_that_is_nowhere(self, tmp_path: Path, mllm: MLLM) -> None:
        folder = published.write_llava(tmp_path / "a", mllm, tower=Path("openai/clip-vit-nowhere"))
        with pytest.raises(CheckpointError, match=r"openai/clip-vit-nowhere is neither a folder nor.*--vision"):
            load_mllm(mllm, folder)

    def test_other_weights(self, tmp_path: Path, mllm: MLLM) -> None:
        published.write_shards(tmp_path, {"bert.embeddings": torch.ones(2)})
        with pytest.raises(CheckpointError, match=r"expected the weights of LLaVA.*got tensors named bert\.embeddings"):
            load_mllm(mllm, tmp_path)

    def test_a_folder_without_the_part(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointError, match="weights in unet/, or the folder of that part alone; found neither"):
            load_unet(tiny_unet(4, 4), tmp_path)
        with pytest.raises(CheckpointError, match=r"vae/ or autoencoder/.*found nothing"):
            load_autoencoder(tiny_kl_autoencoder(), tmp_path / "x")

    def test_apples_files_list_all_faults_of_both(self, tmp_path: Path, editor: Editor) -> None:
        folder = published.write_apple(tmp_path / "apple", editor)
        mllm, unet = torch.load(folder / "mllm.pt"), torch.load(folder / "unet.pt")
        mllm["model.norm.weight"] = torch.ones(40)
        del mllm["edit_head.query"], unet["conv_out.bias"]
        torch.save(mllm, folder / "mllm.pt")
        torch.save(unet, folder / "unet.pt")
        with pytest.raises(CheckpointError) as caught:
            load_apple(editor, folder)
        lines = str(caught.value).splitlines()[1:]
        assert [line.split(":")[0] for line in lines] == [
            "missing (2)",
            "  edit_head",
            "  unet",
            "unexpected (1)",
            "  mllm.pt",
        ]

    def test_one_of_apples_files_is_missing(self, tmp_path: Path, editor: Editor) -> None:
        folder = published.write_apple(tmp_path / "apple", editor)
        (folder / "unet.pt").unlink()
        with pytest.raises(CheckpointError, match=r"expected Apple's mllm\.pt and unet\.pt, found no unet\.pt"):
            load_apple(editor, folder)

    def test_another_guide_is_refused(self, tmp_path: Path, editor: Editor) -> None:
        editor.guide = torch.nn.Identity()
        with pytest.raises(CheckpointError, match=r"expected a system with an MLLM \(model=mgie\), got a Identity"):
            load_apple(editor, tmp_path)

    def test_a_config_that_is_no_json(self, tmp_path: Path, mllm: MLLM) -> None:
        folder = published.write_llava(tmp_path / "a", mllm, tower=Path("x/y"))
        (folder / "config.json").write_text("{")
        with pytest.raises(CheckpointError, match=r"config\.json: expected a JSON file, can not read it"):
            load_mllm(mllm, folder)
        (folder / "config.json").write_text(json.dumps([1]))
        with pytest.raises(CheckpointError, match="expected a JSON object, got list"):
            load_mllm(mllm, folder)
