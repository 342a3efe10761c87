from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Literal

import pytest
import torch

from mgie_lit.testing.tiny_models import (
    RESOLUTION,
    RandomDataset,
    random_batch,
    random_draws,
    random_example,
    tiny_editor,
)
from mgie_lit.vocabulary import NUM_VISUAL_TOKENS


@pytest.mark.parametrize("codec", ["kl", "patch"])
def test_no_two_axes_are_alike(codec: Literal["kl", "patch"]) -> None:
    editor = tiny_editor(codec)
    guide = editor.guide
    language, vision = guide.mllm.language_model.config, guide.mllm.vision_tower.config
    head, unet = guide.edit_head.config, editor.unet.config
    sizes = {
        "vocabulary": language.vocab_size,
        "tokenizer": len(guide.prompt.tokenizer),
        "LLM width": language.hidden_size,
        "LLM heads": language.num_attention_heads,
        "LLM feed-forward": language.intermediate_size,
        "vision width": vision.hidden_size,
        "vision heads": vision.num_attention_heads,
        "vision feed-forward": vision.intermediate_size,
        "patches": guide.prompt.num_image_patches,
        "visual tokens": NUM_VISUAL_TOKENS,
        "head width": head.hidden_dim,
        "head heads": head.num_heads,
        "head feed-forward": head.feedforward_dim,
        "queries": head.num_queries,
        "condition": head.output_dim,
        "latent channels": editor.latent_channels,
        "first UNet width": unet.block_out_channels[0],
        "second UNet width": unet.block_out_channels[1],
        "UNet heads": unet.attention_head_dim,
    }
    assert [name for name, size in sizes.items() if Counter(sizes.values())[size] > 1] == []


def test_weights_depend_on_the_seed_and_leave_the_global_state_alone() -> None:
    state = torch.get_rng_state()
    first, again, other = (tiny_editor("kl", seed=seed).state_dict() for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["unet.conv_in.weight"], other["unet.conv_in.weight"])


def test_random_examples_are_the_same_at_every_call_and_differ() -> None:
    first, again, other = random_example(3), random_example(3), random_example(4)
    assert (first.source, first.target, first.instruction) == (again.source, again.target, again.instruction)
    assert first.source != first.target
    assert first.source != other.source
    assert first.instruction != other.instruction


def test_batch_and_draws_fit_each_other() -> None:
    editor = tiny_editor("patch")
    batch = random_batch(editor)
    draws = random_draws(editor, batch)
    assert batch.source.shape == (3, 3, RESOLUTION, RESOLUTION)
    assert draws.noise.shape == draws.latent_noise.shape == (3, 12, RESOLUTION // 2, RESOLUTION // 2)
    assert torch.equal(random_draws(editor, batch).timesteps, draws.timesteps)
    assert draws.condition_dropout.tolist() == [1.0] * 3


def test_data_set_has_ids_by_split() -> None:
    dataset = RandomDataset("val", 3)
    assert [dataset[index].sample_id for index in range(len(dataset))] == ["val-0", "val-1", "val-2"]
    assert dataset.sample_id(2) == "val-2"


@pytest.mark.slow
def test_neither_lightning_nor_hydra_is_needed() -> None:
    code = "import sys, mgie_lit.testing.tiny_models; print(*({'lightning', 'hydra'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
