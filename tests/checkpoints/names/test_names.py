from __future__ import annotations

import pytest

from mgie_lit.checkpoints.names import apple, autoencoder, clip, hf_llava, llava
from mgie_lit.checkpoints.names.reference import name_of_reference, reference_name
from mgie_lit.checkpoints.names.rules import Format
from mgie_lit.editor import Editor
from mgie_lit.models.mllm import MLLM


@pytest.mark.parametrize("fmt", [llava.LLAVA, hf_llava.HF_LLAVA], ids=lambda fmt: str(fmt.name))
def test_formats_of_an_mllm_are_inverse(fmt: Format, mllm: MLLM) -> None:
    ours = [name for name in mllm.state_dict() if not (fmt is hf_llava.HF_LLAVA and name.startswith("projector."))]
    theirs = [fmt.from_ours(name) for name in ours]
    assert [fmt.to_ours(name) for name in theirs] == ours
    assert len(set(theirs)) == len(ours)
    assert theirs != ours


@pytest.mark.parametrize(
    ("to_ours", "theirs", "ours"),
    [
        (llava.to_ours, "model.layers.3.mlp.up_proj.weight", "language_model.model.layers.3.mlp.up_proj.weight"),
        (llava.to_ours, "model.mm_projector.2.bias", "projector.2.bias"),
        (
            llava.to_ours,
            "model.vision_tower.vision_tower.vision_model.pre_layrnorm.bias",
            "vision_tower.pre_layrnorm.bias",
        ),
        (llava.to_ours, "model.layers.0.self_attn.rotary_emb.inv_freq", None),
        (llava.to_ours, "model.vision_tower.vision_model.embeddings.position_ids", None),
        (hf_llava.to_ours, "language_model.lm_head.weight", "language_model.lm_head.weight"),
        (hf_llava.to_ours, "lm_head.weight", "language_model.lm_head.weight"),
        (hf_llava.to_ours, "model.multi_modal_projector.linear_1.bias", "projector.0.bias"),
        (hf_llava.to_ours, "model.vision_tower.vision_model.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        (hf_llava.to_ours, "vision_tower.pre_layrnorm.bias", "vision_tower.pre_layrnorm.bias"),
        (hf_llava.to_ours, "language_model.model.norm.weight", "language_model.model.norm.weight"),
        (hf_llava.to_ours, "vision_tower.vision_model.embeddings.position_ids", None),
        (clip.to_ours, "text_model.encoder.layers.0.mlp.fc1.bias", None),
        (clip.to_ours, "visual_projection.weight", None),
        (clip.to_ours, "vision_model.embeddings.position_ids", None),
        (
            autoencoder.to_ours,
            "decoder.mid_block.attentions.0.key.weight",
            "decoder.mid_block.attentions.0.to_k.weight",
        ),
        (autoencoder.to_ours, "decoder.mid_block.attentions.0.value.bias", "decoder.mid_block.attentions.0.to_v.bias"),
        (autoencoder.to_ours, "quant_conv.weight", "quant_conv.weight"),
        (apple.mllm_to_ours, "model.embed_tokens.weight", "guide.mllm.language_model.model.embed_tokens.weight"),
        (apple.mllm_to_ours, "model.norm.weight", "model.norm.weight"),
        (apple.unet_to_ours, "conv_in.bias", "unet.conv_in.bias"),
    ],
)
def test_names_of_published_files(to_ours: object, theirs: str, ours: str | None) -> None:
    assert callable(to_ours)
    assert to_ours(theirs) == ours


def test_clip_is_inverse(mllm: MLLM) -> None:
    ours = [name for name in mllm.state_dict() if name.startswith("vision_tower.")]
    assert [clip.to_ours(clip.from_ours(name)) for name in ours] == ours


def test_apple_is_inverse(editor: Editor) -> None:
    kept = ("guide.edit_head.", "guide.mllm.language_model.lm_head", "guide.mllm.language_model.model.embed_tokens")
    ours = [name for name in editor.state_dict() if name.startswith(kept)] + [apple.OUR_STORED_EMBEDDINGS]
    assert [apple.mllm_to_ours(apple.mllm_from_ours(name)) for name in ours] == ours
    unet = [name for name in editor.state_dict() if name.startswith("unet.")]
    assert [apple.unet_to_ours(apple.unet_from_ours(name)) for name in unet] == unet


def test_reference_names_cover_an_editor_and_are_inverse(editor: Editor) -> None:
    ours = [name for name, _ in editor.named_parameters()]
    theirs = [reference_name(name) for name in ours]
    assert [name_of_reference(name) for name in theirs] == ours
    assert len(set(theirs)) == len(ours)
    roots = {"model", "lm_head", "edit_head", "unet", "vae"}
    assert {name.split(".")[0] for name in theirs} == roots
    assert reference_name(apple.OUR_STORED_EMBEDDINGS) == "emb"
    assert name_of_reference("emb") == apple.OUR_STORED_EMBEDDINGS


@pytest.mark.parametrize("name", ["text_encoder.a", "guide.prompt", "model", ""])
def test_no_parameter_of_an_editor(name: str) -> None:
    with pytest.raises(ValueError, match="our_name: expected a parameter of an Editor"):
        reference_name(name)
    with pytest.raises(ValueError, match="reference_name: expected a parameter of ml-mgie"):
        name_of_reference(name)
