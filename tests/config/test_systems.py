"""Every system of the paper: what it is built of, what trains, and how it is loaded for an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mgie_lit.checkpoints.runs import CONFIG_KEY
from mgie_lit.config.build import build_editor
from mgie_lit.config.build_training import build_datamodule, build_module
from mgie_lit.config.compose import compose_config
from mgie_lit.config.runs import resolved
from mgie_lit.config.systems import build_system, check_sources, check_trains, start_from_editor
from mgie_lit.config.validate import validate_config
from mgie_lit.errors import CheckpointError, ConfigError, DataError, MGIEError
from mgie_lit.evaluation.systems import CopySystem, EditorSystem
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.guides.text import TextGuide
from mgie_lit.testing.random_data import random_example
from mgie_lit.testing.tiny_text import write_instruct_pix2pix
from mgie_lit.types import EditExample

MODELS = sorted(path.stem for path in (Path(__file__).resolve().parents[2] / "conf" / "model").glob("*.yaml"))
WITH_MLLM = ("mgie", "lgie")
WITH_TEXT = ("instruct_pix2pix", "mgie_ft", "lgie_ft", "gold")
EVALUATION_ONLY = ("mgie_fz", "lgie_fz", "copy", "trained")
FAST = ("sampling.num_inference_steps=1",)


def save_run(folder: Path, *overrides: str) -> Path:
    """A checkpoint of a system as it is before training."""
    config = compose_config("train", [*overrides])
    weights = {f"editor.{name}": value for name, value in build_editor(config).state_dict().items()}
    file = folder / f"{config.model.name}.ckpt"
    torch.save({"state_dict": weights, "global_step": 3, CONFIG_KEY: resolved(config)}, file)
    return file


@pytest.fixture(scope="module")
def run_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Makes each system's checkpoint once."""
    folder, made = tmp_path_factory.mktemp("runs"), dict[str, Path]()

    def run(model: str) -> Path:
        if model not in made:
            made[model] = save_run(folder, f"model={model}")
        return made[model]

    return run


def example() -> EditExample:
    return random_example(0)


def edits_differ(first: EditorSystem, second: EditorSystem) -> bool:
    a, b = (np.asarray(system([example()], seed=0)[0].image, dtype=int) for system in (first, second))
    return bool((a != b).any())


def test_there_is_a_config_for_every_system() -> None:
    assert set(MODELS) == {*WITH_MLLM, *WITH_TEXT, *EVALUATION_ONLY}
    for model in MODELS:
        assert compose_config("eval", [f"model={model}"]).model.name == model


class TestTraining:
    def test_only_the_guide_differs(self) -> None:
        configs = {model: resolved(compose_config("train", [f"model={model}"])) for model in (*WITH_MLLM, *WITH_TEXT)}
        shared = ("unet", "autoencoder", "source_scale", "resolution")
        for model, config in configs.items():
            for key in shared:
                assert config["size"][key] == configs["mgie"]["size"][key], (model, key)
            for key in ("sampler", "optimizer", "schedule", "trainer", "data", "trainable"):
                assert config[key] == configs["mgie"][key], (model, key)
            objective = {**config["objective"], "loss_edit_weight": 0.5}
            assert objective == configs["mgie"]["objective"], model
            assert config["objective"]["loss_edit_weight"] == (0.5 if model in WITH_MLLM else 1.0)

    @pytest.mark.parametrize("model", [*WITH_MLLM, *WITH_TEXT])
    def test_builds_steps_and_trains_what_it_should(self, model: str) -> None:
        config = compose_config("train", [f"model={model}", "experiment=smoke", "data.batch_size=2"])
        validate_config(config)
        check_trains(config.model)
        module = build_module(config, build_editor(config))
        loader = build_datamodule(config, module.editor).train_dataloader()
        losses = module._losses(next(iter(loader)), epoch=0)  # type: ignore[arg-type]
        assert losses.loss.isfinite()
        assert (losses.loss_lm is None) == (model in WITH_TEXT)
        if model in WITH_TEXT:
            assert torch.equal(losses.loss, losses.loss_edit)
        groups = {group["name"] for group in module.make_optimizer(module.editor.named_parameters()).param_groups}
        assert groups == (
            {"text_encoder", "unet"} if model in WITH_TEXT else {"embeddings", "lm_head", "mllm", "edit_head", "unet"}
        )

    @pytest.mark.parametrize("model", WITH_TEXT)
    def test_paper_trains_the_unet_alone(self, model: str) -> None:
        config = compose_config("train", [f"model={model}", "trainable=paper"])
        module = build_module(config, build_editor(config))
        assert module.trainable_names
        assert all(name.startswith("unet.") for name in module.trainable_names)
        assert {name for name in module.state_dict() if ".text_encoder." in name}, (
            "nothing else holds the random encoder"
        )

    def test_lgie_has_no_eyes(self) -> None:
        config = compose_config("train", ["model=lgie", "experiment=smoke"])
        editor = build_editor(config)
        guide = editor.guide
        assert isinstance(guide, MLLMGuide)
        assert guide.mllm.vision_tower is None
        assert guide.mllm.projector is None
        assert guide.prompt.num_image_patches == 0
        batch = next(iter(build_datamodule(config, editor).train_dataloader()))
        assert batch.mllm_pixels is None  # type: ignore[attr-defined]
        assert not (batch.input_ids == guide.prompt.image_patch_id).any()  # type: ignore[attr-defined]

    def test_text_encoder_starts_from_the_diffusion_folder_and_stays_out_of_checkpoints(self, tmp_path: Path) -> None:
        folder = write_instruct_pix2pix(tmp_path / "published", seed=4)
        config = compose_config("train", ["model=instruct_pix2pix", "sampler=ddim", *small_size(folder)])
        module = build_module(config, build_editor(config))
        guide = module.editor.guide
        assert isinstance(guide, TextGuide)
        assert guide.prompt.ids("warmer")[0] == len(guide.prompt.tokenizer) - 2  # <|startoftext|> of that folder
        published = dict(torch.nn.Module.named_parameters(write_and_open(folder)))
        for name, value in guide.text_encoder.named_parameters():
            assert torch.equal(value, published[name]), name
            assert not value.requires_grad
        assert not [name for name in module.state_dict() if ".text_encoder." in name]

    def test_fine_tuning_starts_from_a_trained_editor(self, run_of: Callable[[str], Path]) -> None:
        file = run_of("instruct_pix2pix")
        config = compose_config("train", ["model=mgie_ft", f"model.editor={file}", "seed=9"])
        editor = build_editor(config)
        before = editor.unet.conv_in.weight.clone()
        start_from_editor(editor, config.model)
        expected = torch.load(file, weights_only=True)["state_dict"]
        assert not torch.equal(editor.unet.conv_in.weight, before)
        for name, value in editor.state_dict().items():
            assert torch.equal(value, expected[f"editor.{name}"]), name

    @pytest.mark.faults
    def test_fine_tuning_from_something_else(self, run_of: Callable[[str], Path]) -> None:
        config = compose_config("train", ["model=mgie_ft", f"model.editor={run_of('gold')}"])
        editor = build_editor(config)
        with pytest.raises(CheckpointError, match=r"expected a run of model=instruct_pix2pix.* got one of model=gold"):
            start_from_editor(editor, config.model)
        other = compose_config(
            "train", ["model=mgie_ft", f"model.editor={run_of('instruct_pix2pix')}", "size.unet.norm_num_groups=4"]
        )
        other.size.text_encoder.num_hidden_layers = 1
        with pytest.raises(CheckpointError, match=r"model.editor: expected a run of the same size"):
            start_from_editor(build_editor(other), other.model)

    @pytest.mark.faults
    @pytest.mark.parametrize("model", EVALUATION_ONLY)
    def test_what_does_not_train(self, model: str) -> None:
        config = compose_config("train", [f"model={model}"])
        validate_config(config)
        message = rf"expected a system that trains, got {model}, which is for evaluation only; use `mgie eval model="
        with pytest.raises(ConfigError, match=message):
            check_trains(config.model)


def small_size(folder: Path) -> list[str]:
    """Overrides that give ``size=tiny`` the parts of a tiny published folder."""
    unet = "size.unet={_target_:diffusers.UNet2DConditionModel,sample_size:8,in_channels:8,out_channels:4,"
    unet += "block_out_channels:[16,32],down_block_types:[DownBlock2D,CrossAttnDownBlock2D],"
    unet += "up_block_types:[CrossAttnUpBlock2D,UpBlock2D],layers_per_block:1,cross_attention_dim:20,"
    unet += "attention_head_dim:2,norm_num_groups:4}"
    vae = "size.autoencoder={_target_:diffusers.AutoencoderKL,latent_channels:4,block_out_channels:[8,12],"
    vae += "down_block_types:[DownEncoderBlock2D,DownEncoderBlock2D],"
    vae += "up_block_types:[UpDecoderBlock2D,UpDecoderBlock2D],layers_per_block:1,norm_num_groups:4}"
    text = "size.text_encoder={_target_:mgie_lit.models.text_encoder.make_text_encoder,vocab_size:530,hidden_size:20,"
    text += "intermediate_size:28,num_hidden_layers:2,num_attention_heads:5,max_position_embeddings:13}"
    replaced = [f"~{part.partition('=')[0]}" for part in (unet, vae, text)]
    added = [f"+{part}" for part in (unet, vae, text)]
    start = [f"size.start.diffusion={folder}", f"size.text_tokenizer.source={folder}", "trainable=paper"]
    return [*replaced, *added, *start]


def write_and_open(folder: Path) -> torch.nn.Module:
    from transformers import CLIPTextModel

    encoder: torch.nn.Module = CLIPTextModel.from_pretrained(folder / "text_encoder")
    return encoder


def evaluated(*overrides: str) -> EditorSystem:
    config = compose_config("eval", [*FAST, *overrides])
    validate_config(config, unused={"size"})
    check_sources(config)
    system = build_system(config).edit
    assert isinstance(system, EditorSystem)
    assert not system.editor.unet.conv_in.weight.is_contiguous(), "laid as an edit reads it"
    return system


class TestEvaluation:
    @pytest.mark.parametrize("model", ["mgie", "lgie", "instruct_pix2pix", "gold"])
    def test_a_checkpoint_says_what_it_holds(self, run_of: Callable[[str], Path], model: str) -> None:
        system = evaluated(f"checkpoint={run_of(model)}")
        (edited,) = system([example()], seed=0)
        assert edited.image.size == example().source.size
        named = evaluated(f"checkpoint={run_of(model)}", f"model={model}")
        assert not edits_differ(system, named)

    def test_source_names_system_weights_and_writer(self, run_of: Callable[[str], Path]) -> None:
        file, writer = run_of("lgie_ft"), run_of("lgie")
        overrides = [f"checkpoint={file}", f"model.writer={writer}"]
        source = build_system(compose_config("eval", overrides)).source
        assert source["system"] == "lgie_ft"
        assert (source["checkpoint"], source["file"], source["global_step"]) == (str(file), str(file), 3)
        assert (source["writer"], source["writer_global_step"]) == (str(writer), 3)
        assert source["writer_sha256"] != source["sha256"]

    def test_gold_reads_the_data_set_s_text(self, run_of: Callable[[str], Path]) -> None:
        system = evaluated(f"checkpoint={run_of('gold')}")
        (edited,) = system([example()], seed=0)
        assert edited.expressive_instruction == example().expressive_instruction
        with pytest.raises(DataError, match=r"reads an expressive instruction, the data set has none"):
            system([replace(example(), expressive_instruction=None)], seed=0)

    @pytest.mark.parametrize("who", WITH_MLLM)
    def test_fine_tuned_system_reads_what_its_writer_writes(self, run_of: Callable[[str], Path], who: str) -> None:
        ours = evaluated(f"checkpoint={run_of(f'{who}_ft')}", f"model.writer={run_of(who)}")
        written = evaluated(f"checkpoint={run_of(who)}")([example()], seed=0)[0].expressive_instruction
        assert ours([example()], seed=0)[0].expressive_instruction == written
        offline = evaluated(f"checkpoint={run_of(f'{who}_ft')}", "model.writer=data")
        assert offline([example()], seed=0)[0].expressive_instruction == example().expressive_instruction

    def test_writer_of_a_run_holds_where_none_is_given(self, run_of: Callable[[str], Path], tmp_path: Path) -> None:
        file = save_run(tmp_path, "model=mgie_ft", f"model.writer={run_of('mgie')}")
        system = evaluated(f"checkpoint={file}")
        assert isinstance(system.editor.guide, TextGuide)
        assert isinstance(system.editor.guide.writer, MLLMGuide)

    @pytest.mark.parametrize("key", ["model.editor", "checkpoint"])
    def test_frozen_system_is_instruct_pix2pix_with_other_words(self, run_of: Callable[[str], Path], key: str) -> None:
        system = evaluated("model=lgie_fz", f"{key}={run_of('instruct_pix2pix')}", f"model.writer={run_of('lgie')}")
        plain = evaluated(f"checkpoint={run_of('instruct_pix2pix')}")
        ours, theirs = system.editor.state_dict(), plain.editor.state_dict()
        assert all(torch.equal(ours[name], value) for name, value in theirs.items())
        written = evaluated(f"checkpoint={run_of('lgie')}")([example()], seed=0)[0].expressive_instruction
        assert system([example()], seed=0)[0].expressive_instruction == written

    def test_sampling_is_a_preset_and_what_is_named_beside_it(self, run_of: Callable[[str], Path]) -> None:
        run = f"checkpoint={run_of('instruct_pix2pix')}"
        fast = evaluated(run, "sampling.preset=fast", "sampling.guidance_interval=[0.0,0.5]", "sampling.solver=unipc")
        assert (fast.options.num_inference_steps, fast.options.solver) == (1, "unipc")
        assert fast.options.guidance_interval == (0.0, 0.5)
        with pytest.raises(ConfigError, match=r"sampling\.preset: expected one of plain, fast, got 'quick'"):
            evaluated(run, "sampling.preset=quick")
        with pytest.raises(
            ConfigError, match=r"sampling\.solver: expected one of ddim, dpm_solver, unipc or null, got 'x'"
        ):
            evaluated(run, "sampling.solver=x")
        with pytest.raises(ConfigError, match=r"sampling\.num_inference_steps: expected at most 999"):
            evaluated(run, "sampling.solver=unipc", "sampling.num_inference_steps=1000")

    def test_published_folder_is_a_whole_system(self, tmp_path: Path) -> None:
        folder = write_instruct_pix2pix(tmp_path / "published")
        system = evaluated(f"checkpoint={folder}")
        assert (system.options.resolution, system.options.num_inference_steps) == (16, 1)
        (edited,) = system([example()], seed=0)
        assert edited.image.size == example().source.size
        assert edited.expressive_instruction == example().instruction
        frozen = evaluated("model=mgie_fz", f"model.editor={folder}", "model.writer=data")
        assert frozen([example()], seed=0)[0].expressive_instruction == example().expressive_instruction

    def test_copy_gives_the_source(self) -> None:
        system = build_system(compose_config("eval", ["model=copy"]))
        assert isinstance(system.edit, CopySystem)
        assert system.source == {"system": "copy"}
        assert system.edit([example()], seed=1)[0].image == example().source  # type: ignore[union-attr]

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            ([], r"expected either checkpoint=.*, predictions=.* or a system without weights such as model=copy"),
            (["checkpoint=a", "predictions=b"], r"eval: expected either checkpoint="),
            (["model=mgie"], r"expected the weights of model=mgie, got none; .* random weights are never evaluated"),
            (["model=mgie", "predictions=b"], r"predictions: expected none with model=mgie, got b"),
            (
                ["model=copy", "checkpoint=a"],
                r"checkpoint: expected none with model=copy, got a; leave one of them out",
            ),
            (["model=mgie_fz"], r"model.editor: expected one trained InstructPix2Pix for model=mgie_fz, got none"),
            (["model=mgie_fz", "model.editor=a", "checkpoint=b"], r"for model=mgie_fz, got two; name it with"),
        ],
    )
    def test_too_little_or_too_much(self, overrides: list[str], message: str) -> None:
        with pytest.raises(ConfigError, match=message):
            check_sources(compose_config("eval", overrides))

    @pytest.mark.faults
    @pytest.mark.parametrize(
        ("overrides", "message"),
        [
            (["checkpoint={mgie_ft}"], r"model.writer: mgie_ft reads expressive instructions, .* model.writer=data"),
            (["model=mgie_fz", "model.editor={instruct_pix2pix}"], r"model.writer: mgie_fz reads expressive"),
            (
                ["checkpoint={mgie}", "model.writer={mgie}"],
                r"model.writer: expected none, mgie writes or reads its own",
            ),
            (
                ["checkpoint={mgie}", "model=lgie"],
                r"expected a run of model=lgie, got one of model=mgie in .*mgie.ckpt",
            ),
            (["model=mgie_fz", "model.editor={mgie}", "model.writer=data"], r"model.editor: expected .* model=mgie in"),
            (["model=mgie_fz", "model.editor={gold}", "model.writer=data"], r"model.editor: expected .* model=gold in"),
            (
                ["checkpoint={mgie_ft}", "model.writer={lgie}"],
                r"a run of model=mgie, got one of model=lgie, which sees no image",
            ),
            (
                ["checkpoint={lgie_ft}", "model.writer={mgie}"],
                r"a run of model=lgie, got one of model=mgie, which sees the image",
            ),
            (
                ["checkpoint={lgie_ft}", "model.writer={gold}"],
                r"expected a run of model=lgie, got one of model=gold, which sees no image, in",
            ),
            (["checkpoint={mgie_ft}", "model.writer=nowhere"], r"model nowhere: expected 'tiny', an existing folder"),
        ],
    )
    def test_weights_of_another_kind(self, run_of: Callable[[str], Path], overrides: list[str], message: str) -> None:
        names = {name: run_of(name) for name in MODELS if any(f"{{{name}}}" in text for text in overrides)}
        config = compose_config("eval", [text.format(**names) for text in overrides])
        with pytest.raises(MGIEError, match=message):
            build_system(config)
