from __future__ import annotations

import json
import re
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from safetensors.torch import load_file

from mgie_lit.checkpoints.apple_source import edit_head_config
from mgie_lit.checkpoints.conversion.apple import PROMPT, SAMPLING, convert_apple
from mgie_lit.checkpoints.conversion.trained import exported_tensors, trained_tensors, write_apple
from mgie_lit.checkpoints.lazy import LazyTensor
from mgie_lit.checkpoints.weight_files import open_weights
from mgie_lit.editor import Editor
from mgie_lit.errors import CheckpointError
from mgie_lit.faults import RELEASED
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.autoencoder import PatchAutoencoder
from mgie_lit.models.mllm import MLLM
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.testing import published_weights as published
from mgie_lit.testing.random_data import random_image
from mgie_lit.testing.tiny_models import LLM_DIM, tiny_edit_head, tiny_editor

HEAD_HEADS = 4  # ml-mgie's, which the files do not tell


@pytest.fixture
def editor(editor: Editor) -> Editor:
    """With an edit head of as many heads as ml-mgie's, and like it as many encoder as decoder layers."""
    from mgie_lit.models.edit_head import EditHead

    assert isinstance(editor.guide, MLLMGuide)
    torch.manual_seed(0)
    config = {**tiny_edit_head().config, "num_heads": HEAD_HEADS, "num_encoder_layers": 2, "num_decoder_layers": 2}
    editor.guide.edit_head = EditHead(**config).eval()
    return editor


def test_the_prompt_is_that_of_the_papers_size() -> None:
    size = yaml.safe_load((Path(__file__).resolve().parents[3] / "conf" / "size" / "llava_7b.yaml").read_text())
    assert size["prompt"] == PROMPT
    assert (size["resolution"], size["source_scale"]) == (SAMPLING["resolution"], SAMPLING["source_scale"])
    assert size["edit_head"]["num_heads"] == HEAD_HEADS


@pytest.mark.parametrize("has_stored", [True, False])
def test_export_is_a_whole_pipeline(
    has_stored: bool, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
) -> None:
    stored = torch.randn(1, 8, LLM_DIM) if has_stored else None
    apple = published.write_apple(tmp_path / "apple", editor, stored=stored)
    convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
    pipeline = MGIEPipeline.from_pretrained(tmp_path / "export")
    loaded = pipeline.editor
    weights = dict(loaded.state_dict())
    head_rows = weights.pop("guide.edit_head.stored_embeddings", None)
    expected = editor.state_dict()
    assert weights.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(weights[name], expected[name])] == []
    assert (head_rows is not None) == has_stored
    if stored is not None and head_rows is not None:
        assert torch.equal(head_rows, stored[0])
    assert loaded.faults == RELEASED
    assert pipeline.config["faults"] == asdict(RELEASED)
    assert pipeline.config["prompt"] == {**PROMPT, "num_image_patches": 9}
    assert {key: pipeline.config[key] for key in SAMPLING} == SAMPLING
    assert isinstance(loaded.scheduler, DDIMScheduler)
    assert isinstance(editor.guide, MLLMGuide)
    assert isinstance(loaded.guide, MLLMGuide)
    assert loaded.guide.prompt.visual_ids == editor.guide.prompt.visual_ids
    assert pipeline.image_processor.size == {"shortest_edge": 42}
    assert pipeline.image_processor.crop_size == {"height": 42, "width": 42}


def test_an_autoencoder_of_ours_is_found_where_it_is(tmp_path: Path, editor: Editor, llava: Path) -> None:
    system = tiny_editor("patch")
    system.guide = editor.guide
    apple = published.write_apple(tmp_path / "apple", system)
    diffusion = published.write_pipeline(tmp_path / "diffusion", system)
    convert_apple(apple, tmp_path / "export", llava=llava, diffusion=diffusion)
    index = json.loads((tmp_path / "export" / "model_index.json").read_text())
    assert index["autoencoder"] == ["mgie_lit.models.autoencoder", "PatchAutoencoder"]
    loaded = MGIEPipeline.from_pretrained(tmp_path / "export").editor.autoencoder
    assert isinstance(loaded, PatchAutoencoder)
    assert (loaded.config["patch_size"], loaded.config["scaling_factor"]) == (2, 0.8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("shape", [(1, 8, LLM_DIM), (8, LLM_DIM)])
def test_there_and_back_is_exact(
    dtype: torch.dtype, shape: tuple[int, ...], tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
) -> None:
    apple = published.write_apple(tmp_path / "apple", editor, stored=torch.randn(shape), dtype=dtype)
    convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
    write_apple(*exported_tensors(tmp_path / "export"), tmp_path / "back")
    for name in ("mllm.pt", "unet.pt"):
        there, back = torch.load(apple / name), torch.load(tmp_path / "back" / name)
        assert there.keys() == back.keys()
        assert {value.dtype for value in back.values()} == {dtype}
        if name == "mllm.pt":
            there["emb"] = there["emb"].reshape(1, 8, LLM_DIM)
        assert [key for key in there if not torch.equal(there[key], back[key])] == []
    assert "--from apple --to export" in (tmp_path / "back" / "README.txt").read_text()


def test_a_trained_editor_in_half_precision(tmp_path: Path, editor: Editor) -> None:
    write_apple(*trained_tensors(editor, tmp_path), tmp_path / "apple", dtype="half")
    mllm = torch.load(tmp_path / "apple" / "mllm.pt")
    weights = editor.state_dict()
    assert {value.dtype for value in mllm.values()} == {torch.float16}
    assert torch.equal(mllm["lm_head.weight"], weights["guide.mllm.language_model.lm_head.weight"].half())
    assert isinstance(editor.guide, MLLMGuide)
    first = editor.guide.prompt.visual_ids[0]
    rows = editor.guide.mllm.word_embeddings[first : first + 8]
    assert torch.equal(mllm["emb"], rows[None].half())
    unet = torch.load(tmp_path / "apple" / "unet.pt")
    assert unet.keys() == editor.unet.state_dict().keys()
    assert {value.dtype for value in unet.values()} == {torch.float16}


def test_the_files_hold_no_more_than_their_tensors(tmp_path: Path, editor: Editor) -> None:
    """A slice of a table must not drag the table into the file twice."""
    tensors, first = trained_tensors(editor, tmp_path)
    write_apple(tensors, first, tmp_path / "apple")
    size = sum(value.nbytes for value in torch.load(tmp_path / "apple" / "mllm.pt").values())
    assert (tmp_path / "apple" / "mllm.pt").stat().st_size < size + 40_000


def test_it_edits_as_the_original(tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path) -> None:
    apple = published.write_apple(tmp_path / "apple", editor)
    convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
    pipeline = MGIEPipeline.from_pretrained(tmp_path / "export")
    again = tmp_path / "again"
    pipeline.save_pretrained(again)
    image = random_image(16, 24, seed=3)
    first, second = (
        pipe(image, "make it red", num_inference_steps=2, generator=torch.Generator().manual_seed(1)).images[0]
        for pipe in (pipeline, MGIEPipeline.from_pretrained(again))
    )
    # Weights lie in memory where the file has them, and sums over vectors that are aligned otherwise round otherwise.
    assert np.abs(np.asarray(first, dtype=int) - np.asarray(second)).max() <= 1


def test_number_types_are_kept(tmp_path: Path, editor: Editor, mllm: MLLM) -> None:
    clip = published.write_clip(tmp_path / "clip", mllm)
    diffusion = published.write_pipeline(tmp_path / "diffusion", editor)
    apple = published.write_apple(tmp_path / "apple", editor)
    llava = published.write_llava(tmp_path / "llava", mllm.half(), tower=clip)
    convert_apple(apple, tmp_path / "export", llava=llava, diffusion=diffusion)
    tensors = open_weights(tmp_path / "export" / "mllm")
    assert tensors["language_model.model.norm.weight"].dtype == torch.float16
    assert tensors["language_model.lm_head.weight"].dtype == torch.float32
    assert tensors["vision_tower.pre_layrnorm.weight"].dtype == torch.float32


def lazy_head(editor: Editor) -> dict[str, LazyTensor]:
    assert isinstance(editor.guide, MLLMGuide)
    return {name: lazy_tensor(name, tuple(value.shape)) for name, value in editor.guide.edit_head.state_dict().items()}


def lazy_tensor(name: str, shape: tuple[int, ...]) -> LazyTensor:
    return LazyTensor(shape, torch.float32, Path(), name, lambda: torch.ones(1))


def head_config(editor: Editor) -> dict[str, int]:
    assert isinstance(editor.guide, MLLMGuide)
    return {key: value for key, value in editor.guide.edit_head.config.items() if not key.startswith("_")}


@pytest.mark.parametrize(
    "lost",
    [
        r"",
        r"llm2hid\.weight",
        r"hid2feat\.weight",
        r"llm2hid\.weight|hid2feat\.weight",
        r".*\.linear1\.weight",
        r".*\.linear1\..*",
        r"mapper\.encoder\.layers\..*",
        r"mapper\.decoder\.layers\.1\..*",
    ],
)
def test_edit_head_config_from_the_shapes_that_are_left(lost: str, editor: Editor) -> None:
    left = {name: lazy for name, lazy in lazy_head(editor).items() if not re.fullmatch(lost, name)}
    assert edit_head_config(left, lazy_tensor("words", (512, LLM_DIM))) == head_config(editor)


def test_edit_head_config_takes_stored_embeddings_before_words(editor: Editor) -> None:
    left = lazy_head(editor) | {"stored_embeddings": lazy_tensor("stored_embeddings", (8, LLM_DIM))}
    del left["llm2hid.weight"]
    expected = {**head_config(editor), "num_stored_embeddings": 8}
    assert edit_head_config(left, lazy_tensor("words", (512, 3))) == expected


def test_edit_head_config_of_shapes_that_make_no_head(editor: Editor) -> None:
    broken = lazy_head(editor) | {"llm2hid.weight": lazy_tensor("llm2hid.weight", (27,))}
    assert edit_head_config(broken, lazy_tensor("words", (512, LLM_DIM))) == head_config(editor)


def test_edit_head_config_of_nothing_is_the_papers() -> None:
    size = yaml.safe_load((Path(__file__).resolve().parents[3] / "conf" / "size" / "llava_7b.yaml").read_text())
    plain = {key: value for key, value in size["edit_head"].items() if isinstance(value, int)}
    widths = {
        "input_dim": size["mllm"]["language"]["hidden_size"],
        "output_dim": size["unet"]["cross_attention_dim"],
        "num_stored_embeddings": 0,
    }
    assert edit_head_config({}) == {**plain, **widths}


def test_the_unets_config_is_enough(tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path) -> None:
    apple = published.write_apple(tmp_path / "apple", editor)
    for file in (pipeline_folder / "unet").iterdir():
        if file.name != "config.json":
            file.unlink()
    assert [file.name for file in (pipeline_folder / "unet").iterdir()] == ["config.json"]
    convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
    unet = MGIEPipeline.from_pretrained(tmp_path / "export").editor.unet.state_dict()
    expected = editor.unet.state_dict()
    assert unet.keys() == expected.keys()
    assert [name for name in expected if not torch.equal(unet[name], expected[name])] == []


@pytest.mark.faults
class TestFaults:
    def test_one_message_for_all_parts(
        self, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
    ) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        mllm, unet = torch.load(apple / "mllm.pt"), torch.load(apple / "unet.pt")
        del mllm["edit_head.mapper.encoder.norm.weight"], mllm["lm_head.weight"], unet["conv_out.bias"]
        mllm["optimizer"] = torch.ones(1)
        torch.save(mllm, apple / "mllm.pt")
        torch.save(unet, apple / "unet.pt")
        with pytest.raises(CheckpointError) as caught:
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
        assert str(caught.value).splitlines()[1:] == [
            "missing (3):",
            "  mllm: lm_head.weight",
            "  edit_head: edit_head.mapper.encoder.norm.weight",
            "  unet: conv_out.bias",
            "unexpected (1):",
            "  no part: optimizer (1,)",
        ]
        assert not (tmp_path / "export").exists()

    @pytest.mark.parametrize("kind", ["encoder", "decoder"])
    def test_a_lost_last_layer(
        self, kind: str, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
    ) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        mllm = torch.load(apple / "mllm.pt")
        prefix = f"edit_head.mapper.{kind}.layers.1."
        lost = [name for name in mllm if name.startswith(prefix)]
        torch.save({name: value for name, value in mllm.items() if name not in lost}, apple / "mllm.pt")
        with pytest.raises(CheckpointError, match=rf"edit_head\.mapper\.{kind}\.layers\.1\.") as caught:
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
        first, *lines = str(caught.value).splitlines()[1:]
        assert first == f"missing ({len(lost)}):"
        assert sorted(lines) == sorted(f"  edit_head: {name}" for name in lost)
        assert not (tmp_path / "export").exists()

    def test_missing_sizes_extra_and_wrong_shapes_in_one_message(
        self, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
    ) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        mllm, unet = torch.load(apple / "mllm.pt"), torch.load(apple / "unet.pt")
        del mllm["edit_head.query"], unet["conv_in.bias"]
        mllm["foo.bar"] = torch.ones(3)
        mllm["edit_head.mapper.encoder.norm.weight"] = torch.ones(5)
        torch.save(mllm, apple / "mllm.pt")
        torch.save(unet, apple / "unet.pt")
        with pytest.raises(CheckpointError, match="the tensors do not fit the model") as caught:
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)
        assert str(caught.value).splitlines()[1:] == [
            "missing (2):",
            "  edit_head: edit_head.query",
            "  unet: conv_in.bias",
            "unexpected (1):",
            "  no part: foo.bar (3,)",
            "wrong shape (1):",
            "  edit_head: edit_head.mapper.encoder.norm.weight has shape (5,) instead of (28,)",
        ]

    @pytest.mark.parametrize(
        "name", ["llm2hid.weight", "hid2feat.weight", "query", "mapper.encoder.layers.0.linear1.weight"]
    )
    def test_a_missing_tensor_that_tells_a_size(
        self, name: str, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
    ) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        mllm = torch.load(apple / "mllm.pt")
        del mllm[f"edit_head.{name}"]
        torch.save(mllm, apple / "mllm.pt")
        with pytest.raises(CheckpointError, match=rf"missing \(1\):\n  edit_head: edit_head\.{re.escape(name)}$"):
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)

    def test_no_unet_config(self, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        (pipeline_folder / "unet" / "config.json").unlink()
        with pytest.raises(CheckpointError, match=r"expected the UNet's config, found no .*unet/config\.json and no"):
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)

    def test_a_language_model_without_eyes(
        self, tmp_path: Path, editor: Editor, mllm: MLLM, pipeline_folder: Path
    ) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        tensors = published.legacy_llava_tensors(mllm, has_tower=False)
        folder = tmp_path / "llama"
        published.write_shards(folder, {name: value for name, value in tensors.items() if "projector" not in name})
        with pytest.raises(CheckpointError, match="expected a LLaVA folder, got a language model without projector"):
            convert_apple(apple, tmp_path / "export", llava=folder, diffusion=pipeline_folder)

    def test_a_tokenizer_with_more_words_than_rows(
        self, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path
    ) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        mllm = torch.load(apple / "mllm.pt")
        mllm["model.embed_tokens.weight"] = mllm["model.embed_tokens.weight"][:500].clone()
        torch.save(mllm, apple / "mllm.pt")
        with pytest.raises(CheckpointError, match=r"a tokenizer of at most 500 tokens.*mllm\.pt has rows, got 512"):
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)

    def test_no_tokenizer(self, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        for file in llava.glob("token*"):
            file.unlink()
        with pytest.raises(CheckpointError, match=r"llava: expected a tokenizer \(tokenizer\.model, or"):
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)

    def test_no_scheduler(self, tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path) -> None:
        apple = published.write_apple(tmp_path / "apple", editor)
        (pipeline_folder / "scheduler" / "scheduler_config.json").write_text("{}")
        with pytest.raises(CheckpointError, match="expected the scheduler's class under _class_name, found none"):
            convert_apple(apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder)

    def test_another_number_of_visual_tokens(self, tmp_path: Path, editor: Editor) -> None:
        message = r"expected a model with 8 visual tokens, which ml-mgie takes for granted, got one with 5"
        assert isinstance(editor.guide, MLLMGuide)
        editor.guide.prompt.visual_ids = editor.guide.prompt.visual_ids[:5]
        with pytest.raises(CheckpointError, match=message):
            trained_tensors(editor, tmp_path)
        (tmp_path / "model_index.json").write_text('{"prompt": {"num_visual_tokens": 5}}')
        with pytest.raises(CheckpointError, match=message):
            exported_tensors(tmp_path)

    def test_another_guide(self, tmp_path: Path, editor: Editor) -> None:
        editor.guide = torch.nn.Identity()
        with pytest.raises(CheckpointError, match="expected a system with an MLLM"):
            trained_tensors(editor, tmp_path)


def test_shards_of_the_export_are_whole(tmp_path: Path, editor: Editor, llava: Path, pipeline_folder: Path) -> None:
    apple = published.write_apple(tmp_path / "apple", editor)
    heard: set[str] = set()
    convert_apple(
        apple, tmp_path / "export", llava=llava, diffusion=pipeline_folder, on_bytes=lambda part, *_: heard.add(part)
    )
    assert heard == {"mllm", "edit_head", "unet", "autoencoder"}
    files = sorted(str(path.relative_to(tmp_path / "export")) for path in (tmp_path / "export").rglob("*.*"))
    assert not [file for file in files if file.endswith((".bin", ".pt"))]
    assert load_file(tmp_path / "export" / "unet" / "diffusion_pytorch_model.safetensors")
