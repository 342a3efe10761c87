"""Weights spread over processes: which belong together, and that the gradients stay what they were."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor

from mgie_lit.config.compose import compose_config
from mgie_lit.config.shapes import build_shapes
from mgie_lit.editor import Editor, Objective
from mgie_lit.errors import ConfigError
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.random_data import random_batch
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.compute import AS_IT_IS, BF16_MIXED, Compute
from mgie_lit.training.draws import draw
from mgie_lit.training.sharding import shard, sharded_units

PAPER = ["guide.mllm.language_model.model.embed_tokens.*", "guide.mllm.language_model.lm_head.*"]
PAPER += ["guide.edit_head.*", "unet.*"]


def editor_that_trains() -> Editor:
    editor = tiny_editor("kl")
    set_trainable(editor, PAPER)
    return editor


def test_units_of_the_paper_s_size() -> None:
    """On the meta device: every layer of the 7B model apart, each unit frozen or not as a whole."""
    overrides = ["size=llava_7b", "sampler=ddim", "trainable=paper", "paths.run_dir=unused"]
    editor = build_shapes(compose_config("train", overrides), tokenizer="small").editor
    units = sharded_units(editor)
    layers = [name for name in units if ".layers." in name]
    assert len(layers) == 32
    trains = {name: {parameter.requires_grad for parameter in unit.parameters()} for name, unit in units.items()}
    assert [trains[name] for name in layers] == [{False}] * 32
    assert {name for name, values in trains.items() if values == {True}} == {
        "guide.mllm.language_model.model.embed_tokens", "guide.mllm.language_model.lm_head", "guide.edit_head", "unet",
    }  # fmt: skip
    held = [id(parameter) for unit in units.values() for parameter in unit.parameters()]
    assert len(held) == len(set(held)), "no weight is in two units"
    whole = sum(parameter.numel() for parameter in editor.parameters())
    assert sum(parameter.numel() for unit in units.values() for parameter in unit.parameters()) > 0.95 * whole


def test_what_trains_outside_or_in_part_is_refused() -> None:
    editor = editor_that_trains()
    set_trainable(editor, [*PAPER, "autoencoder.*"])
    with pytest.raises(ConfigError, match=r"trainer=fsdp: expected whole units to train .* got autoencoder\."):
        sharded_units(editor)
    set_trainable(editor, [*PAPER[:3], "unet.conv_in.*"])
    with pytest.raises(ConfigError, match=r"got unet; take trainable=paper"):
        sharded_units(editor)


def loss_of(editor: Editor, samples: range) -> torch.Tensor:
    """The edit loss, which is a mean over the samples."""
    batch = random_batch(editor, samples)
    draws = draw(
        batch.sample_ids,
        seed=0,
        epoch=0,
        latent_shape=editor.batch_latent_shape(batch),
        num_timesteps=len(editor.scheduler.alphas_cumprod),
    )
    return editor.losses(batch, draws, Objective()).loss_edit


def gradients(editor: Editor, samples: range) -> dict[str, torch.Tensor]:
    loss_of(editor, samples).backward()  # type: ignore[no-untyped-call]
    found = {name: parameter.grad for name, parameter in editor.named_parameters() if parameter.grad is not None}
    return {name: grad.full_tensor() if isinstance(grad, DTensor) else grad for name, grad in found.items()}


def spread(editor: Editor) -> set[str]:
    return {name for name, parameter in editor.named_parameters() if isinstance(parameter, DTensor)}


AGAIN = {"checkpoint_language_model": True, "checkpoint_unet": True}
WAYS = {  # switches of a step, and the trainer's precision
    "plain": (AS_IT_IS, "32-true"),
    "computed again": (Compute(**AGAIN), "32-true"),
    "compiled": (Compute(compile_unet="aot_eager", compile_language_model="aot_eager"), "32-true"),
    "mixed": (AS_IT_IS, BF16_MIXED),
    "lowered": (Compute(), BF16_MIXED),
    "all": (Compute(**AGAIN, compile_unet="aot_eager", compile_language_model="aot_eager"), BF16_MIXED),
}


def gradients_spread(way: str, rank: int) -> dict[str, torch.Tensor]:
    """Gradients as a step of two processes computes them; what is done before weights are spread is done before."""
    compute, precision = WAYS[way]
    editor = editor_that_trains()
    compute.arrange(editor)
    frozen = [name for name, parameter in editor.named_parameters() if not parameter.requires_grad]
    compute.begin(editor, frozen, precision)
    shard(editor, init_device_mesh("cpu", (2,)))
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == BF16_MIXED):
        return gradients(editor, range(2 * rank, 2 * rank + 2))


def one_of_two_in_all_ways(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = {way: gradients_spread(way, rank) for way in WAYS}
    if rank == 0:
        torch.save(found, f"{folder}/gradients.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)


@pytest.mark.slow
def test_switches_of_a_step_change_nothing(tmp_path: Path) -> None:
    multiprocessing.spawn(one_of_two_in_all_ways, args=(str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "gradients.pt", weights_only=True)
    assert found.keys() == WAYS.keys()
    for way, like in (("computed again", "plain"), ("lowered", "mixed")):
        other = [name for name, gradient in found[like].items() if not torch.equal(gradient, found[way][name])]
        assert other == [], f"{way}: not to the last bit"
    for way, like, tolerance in (("compiled", "plain", 1e-4), ("all", "mixed", 2e-2)):
        for name, gradient in found[like].items():
            assert (found[way][name] - gradient).abs().max() <= tolerance * gradient.abs().max(), (way, name)


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    editor = editor_that_trains()
    shard(editor, init_device_mesh("cpu", (2,)))
    halves = spread(editor)
    with torch.no_grad():
        loss_of(editor, range(2))
    whole_after_forward = sorted(halves - spread(editor))
    found = gradients(editor, range(2 * rank, 2 * rank + 2))
    if rank == 0:
        torch.save({"gradients": found, "halves": sorted(halves), "whole": whole_after_forward}, f"{folder}/found.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    os._exit(0)


@pytest.mark.slow
def test_gradients_are_those_of_one_process(tmp_path: Path) -> None:
    multiprocessing.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    editor = editor_that_trains()
    expected = gradients(editor, range(4))
    assert found["gradients"].keys() == expected.keys()
    for name, gradient in expected.items():
        assert torch.allclose(found["gradients"][name], gradient, rtol=1e-4, atol=1e-6), name
    assert "guide.mllm.language_model.model.layers.0.mlp.up_proj.weight" in found["halves"]
    assert not [name for name in found["halves"] if name.startswith(("autoencoder.", "guide.mllm.vision_tower."))]
    assert found["whole"] == ["guide.mllm.language_model.model.embed_tokens.weight"], "others are let go at once"
