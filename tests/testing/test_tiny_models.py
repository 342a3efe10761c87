from __future__ import annotations

import subprocess
import sys
from collections import Counter
from typing import Literal

import pytest
import torch

from mgie_lit.testing.tiny_models import tiny_editor
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


@pytest.mark.slow
def test_neither_lightning_nor_hydra_is_needed() -> None:
    modules = "mgie_lit.testing.tiny_models, mgie_lit.testing.random_data"
    code = f"import sys, {modules}; print(*({{'lightning', 'hydra'}} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == []
