"""The paper's ablations: what each key changes, and the experiments that sweep over them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from mgie_lit.checkpoints.runs import CONFIG_KEY
from mgie_lit.config.build import build_editor, load_editor
from mgie_lit.config.build_training import build_datamodule
from mgie_lit.config.compose import compose_config
from mgie_lit.config.runs import resolved
from mgie_lit.config.validate import validate_config
from mgie_lit.errors import ConfigError
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.pipeline import MGIEPipeline
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.testing.random_data import random_image

FILES = sorted((Path(__file__).resolve().parents[2] / "conf" / "experiment").glob("*.yaml"))
SWEEPS = [file for file in FILES if "hydra" in OmegaConf.load(file)]


def jobs(file: Path) -> list[list[str]]:
    """Overrides of every job of a sweep, as Hydra's own sweeper splits them."""
    params = OmegaConf.to_container(OmegaConf.load(file).hydra.sweeper.params)
    assert isinstance(params, dict)
    texts = [f"{key}={value}" for key, value in params.items()]
    (batch,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(texts), None)
    return [list(job) for job in batch]


class TestNumberOfVisualTokens:
    @pytest.mark.parametrize("count", [1, 4, 11])
    def test_tokens_states_and_conditions_follow(self, count: int) -> None:
        overrides = [f"size.prompt.num_visual_tokens={count}", "size.mllm.language.vocab_size=520"]
        config = compose_config("train", ["experiment=smoke", "data.batch_size=2", *overrides])
        editor = build_editor(config)
        guide = editor.guide
        assert isinstance(guide, MLLMGuide)
        assert guide.prompt.tokenizer.convert_ids_to_tokens(guide.prompt.visual_ids) == [
            f"[IMG{index}]" for index in range(count)
        ]
        assert guide.visual_embeddings.shape == (count, 96)
        batch = next(iter(build_datamodule(config, editor).train_dataloader()))
        start = batch.visual_token_start[0]  # type: ignore[attr-defined]
        row = batch.input_ids[0]  # type: ignore[attr-defined]
        assert row[start : start + count].tolist() == guide.prompt.visual_ids
        assert row[start + count] == guide.prompt.tokenizer.eos_token_id
        assert guide.losses(batch).text.shape == (2, 8, 64)  # type: ignore[arg-type]
        conversation = guide.begin([guide.prompt.prompt_ids("warmer")], guide.look([random_image(16, 16, seed=0)]))
        states = guide.read(conversation, guide.write(conversation))
        assert states.shape == (1, count, 96)

    def test_runs_and_exports_keep_their_number(self, tmp_path: Path) -> None:
        config = compose_config("train", ["size.prompt.num_visual_tokens=3"])
        weights = {f"editor.{name}": value for name, value in build_editor(config).state_dict().items()}
        torch.save({"state_dict": weights, "global_step": 3, CONFIG_KEY: resolved(config)}, tmp_path / "a.ckpt")
        editor, _ = load_editor(tmp_path / "a.ckpt")
        pipeline = MGIEPipeline.from_editor(editor, SamplingOptions(resolution=64, num_inference_steps=1))
        pipeline.save_pretrained(tmp_path / "export")
        exported = MGIEPipeline.from_pretrained(tmp_path / "export").editor
        for guide in (editor.guide, pipeline.editor.guide, exported.guide):
            assert isinstance(guide, MLLMGuide)
            assert len(guide.prompt.visual_ids) == 3

    @pytest.mark.faults
    def test_faults(self) -> None:
        with pytest.raises(ConfigError, match=r"size: num_visual_tokens: expected at least 1, got 0"):
            build_editor(compose_config("train", ["size.prompt.num_visual_tokens=0"]))
        with pytest.raises(ConfigError, match=r"size: mllm: expected a vocabulary of at least 514 tokens, got 512"):
            build_editor(compose_config("train", ["size.prompt.num_visual_tokens=10"]))


def test_which_sweeps_there_are() -> None:
    assert {file.stem: len(jobs(file)) for file in SWEEPS} == {
        "ablation_edit_head": 3,
        "ablation_image": 2,
        "ablation_loss_lm": 2,
        "ablation_prompt": 2,
        "ablation_summariser": 2,
        "ablation_visual_tokens": 5,
        "guidance_curve": 7,
        "score_systems": 8,
        "systems": 6,
    }


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_job_is_sound(file: Path) -> None:
    primary = file.read_text().splitlines()[1].split()[2]
    for job in jobs(file):
        config = compose_config(primary, [f"experiment={file.stem}", *job])
        validate_config(config)
        if primary == "train":
            build_editor(config)


def test_jobs_differ_in_what_they_say() -> None:
    values = {}
    for name, key in (
        ("ablation_prompt", "size.prompt.query"),
        ("ablation_edit_head", "size.edit_head.num_decoder_layers"),
        ("ablation_loss_lm", "objective.loss_lm_weight"),
        ("guidance_curve", "sampling.image_guidance_scale"),
    ):
        (file,) = [file for file in SWEEPS if file.stem == name]
        primary = "eval" if name == "guidance_curve" else "train"
        configs = [compose_config(primary, [f"experiment={name}", *job]) for job in jobs(file)]
        values[name] = [OmegaConf.select(config, key) for config in configs]
    assert values == {
        "ablation_prompt": [
            "what will this image be like if ' {instruction} '",
            "how will this image look if ' {instruction} '",
        ],
        "ablation_edit_head": [1, 2, 4],
        "ablation_loss_lm": [1.0, 0.0],
        "guidance_curve": [1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2],
    }
