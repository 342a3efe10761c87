from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from mgie_lit.config.build import build_editor
from mgie_lit.config.compose import compose_config
from mgie_lit.config.shapes import build_shapes
from mgie_lit.doctor.dry_run import DryRun, StepShape, dry_run
from mgie_lit.doctor.precision import parse_precision
from mgie_lit.editor import Editor, Objective
from mgie_lit.guides.mllm import MLLMGuide
from mgie_lit.models.freezing import set_trainable
from mgie_lit.testing.random_data import RESOLUTION, random_batch, random_draws
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.types import EditBatch, EditDraws

PAPER = ["guide.mllm.language_model.model.embed_tokens.*", "guide.mllm.language_model.lm_head.*", "guide.edit_head.*"]
TRAINABLE = {"paper": [*PAPER, "unet.*"], "all": ["guide.*", "unet.*"], "unet": ["unet.*"]}
# A small system in which no part is negligible: SD-like autoencoder and UNet, a language model of four layers.
MEDIUM = [
    "size=llava_7b",
    "sampler=ddim",
    "size.start.mllm=null",
    "size.start.diffusion=null",
    "size.tokenizer.source=small",
    "size.resolution=64",
    "size.prompt.max_length=400",
    "size.mllm.language.vocab_size=2011",
    "size.mllm.language.hidden_size=192",
    "size.mllm.language.intermediate_size=512",
    "size.mllm.language.num_hidden_layers=4",
    "size.mllm.language.num_attention_heads=6",
    "size.mllm.vision.hidden_size=64",
    "size.mllm.vision.intermediate_size=128",
    "size.mllm.vision.num_hidden_layers=3",
    "size.mllm.vision.num_attention_heads=4",
    "size.edit_head.hidden_dim=96",
    "size.edit_head.feedforward_dim=160",
    "size.autoencoder.block_out_channels=[8,16,16,16]",
    "size.autoencoder.norm_num_groups=4",
    "size.unet.block_out_channels=[32,64,64,96]",
    "size.unet.cross_attention_dim=40",
    "+size.unet.norm_num_groups=8",
]


def kept_bytes(editor: Editor, batch: EditBatch, draws: EditDraws, *, is_mixed: bool = False) -> int:
    """What a real step keeps for its backward: every storage once, weights left out."""
    weights = {tensor.untyped_storage().data_ptr() for tensor in (*editor.parameters(), *editor.buffers())}
    sizes: dict[int, int] = {}
    held: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        held.append(tensor)
        sizes[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    mixed = torch.autocast("cpu", torch.bfloat16) if is_mixed else nullcontext()
    with mixed, torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        editor.losses(batch, draws, Objective())
    return sum(size for pointer, size in sizes.items() if pointer not in weights)


def estimate(
    editor: Editor,
    size: int,
    length: int,
    precision: str = "32-true",
    resolution: int = RESOLUTION,
    num_labels: int | None = None,
    **kwargs: bool,
) -> DryRun:
    shape = StepShape(size, length, size * length // 3 if num_labels is None else num_labels, resolution)
    return dry_run(editor, Objective(), shape, parse_precision(precision), is_cuda=kwargs.get("is_cuda", False))


def editor_that_trains(what: str, codec: str = "kl") -> Editor:
    editor = tiny_editor(codec)  # type: ignore[arg-type]
    set_trainable(editor, TRAINABLE[what])
    return editor


@pytest.fixture(scope="module")
def paper() -> DryRun:
    """A step of 4 rows of 60 tokens with what trains in the paper."""
    return estimate(editor_that_trains("paper"), 4, 60)


def compared(codec: str, trainable: str, precision: str) -> tuple[int, int]:
    """Bytes of the dry run, and of a real step."""
    editor = editor_that_trains(trainable, codec)
    batch = random_batch(editor, (0, 1, 2, 3))
    real = kept_bytes(editor, batch, random_draws(editor, batch), is_mixed=precision == "bf16-mixed")
    shape = (len(batch), batch.input_ids.shape[1])
    return estimate(editor, *shape, precision, num_labels=len(batch.label_positions)).kept_total, real


def test_kept_bytes_are_those_of_a_real_step() -> None:
    ours, real = compared("kl", "paper", "32-true")
    assert ours == pytest.approx(real, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("codec", "trainable", "precision"),
    [
        ("kl", "all", "32-true"),
        ("kl", "unet", "32-true"),
        ("patch", "paper", "32-true"),
        ("patch", "all", "32-true"),
        ("kl", "paper", "bf16-mixed"),
        ("kl", "all", "bf16-mixed"),
    ],
)
def test_kept_bytes_are_those_of_a_real_step_whatever_trains(codec: str, trainable: str, precision: str) -> None:
    ours, real = compared(codec, trainable, precision)
    assert ours == pytest.approx(real, rel=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_kept_bytes_of_a_larger_system(precision: str) -> None:
    config = compose_config("train", [*MEDIUM, "effective_batch_size=null"])
    editor = build_editor(config)
    set_trainable(editor, TRAINABLE["paper"])
    assert isinstance(editor.guide, MLLMGuide)
    batch = random_batch(editor, (0, 1, 2))
    real = kept_bytes(editor, _of_side(batch, 64), _draws(editor, 3, 64), is_mixed=precision == "bf16-mixed")
    shapes = build_shapes(config)  # never had numbers
    labels = len(batch.label_positions)
    run = estimate(shapes.editor, len(batch), batch.input_ids.shape[1], precision, 64, labels)
    assert run.kept_total == pytest.approx(real, rel=0.02)


def test_frozen_parts_before_which_nothing_trains_keep_nothing(paper: DryRun) -> None:
    assert not {"vision tower", "projector", "autoencoder"} & set(paper.kept)
    assert {"language model", "LM head", "edit head", "UNet", "losses"} <= set(paper.kept)


def test_frozen_language_model_keeps_activations_because_embeddings_train(paper: DryRun) -> None:
    """``(6 + 2 F / D) b D`` a position and layer; of attention nothing for each head."""
    config = tiny_editor().guide.mllm.language_model.config  # type: ignore[union-attr]
    width, ratio = config.hidden_size, config.intermediate_size / config.hidden_size
    a_position = config.num_hidden_layers * 4 * ((6 + 2 * ratio) * width + 60)
    assert paper.kept["language model"] == pytest.approx(4 * 60 * a_position, rel=0.15)


def test_operations_are_counted(paper: DryRun) -> None:
    """A linear layer takes 2 operations a weight and position, and as many for its inputs' gradient."""
    model = tiny_editor().guide.mllm.language_model  # type: ignore[union-attr]
    matrices = sum(p.numel() for name, p in model.named_parameters() if p.ndim == 2 and "embed_tokens" not in name)
    assert paper.flops_forward > 2 * matrices * 4 * 60
    assert 0.5 * paper.flops_forward < paper.flops_backward < 2 * paper.flops_forward
    assert paper.flops == paper.flops_forward + paper.flops_backward


def test_peak_is_what_is_kept_and_some_more(paper: DryRun) -> None:
    assert paper.kept_total < paper.peak < 1.5 * paper.kept_total


@pytest.mark.slow
def test_norms_of_mixed_precision_on_a_gpu_are_float32() -> None:
    runs = [estimate(editor_that_trains("unet"), 4, 60, "bf16-mixed", is_cuda=is_cuda) for is_cuda in (False, True)]
    assert runs[1].kept["UNet"] > runs[0].kept["UNet"]


@pytest.mark.slow
def test_nothing_before_the_unet_is_kept_where_it_alone_trains() -> None:
    assert set(estimate(editor_that_trains("unet"), 2, 40).kept) <= {"UNet", "losses"}


@pytest.mark.slow
def test_longer_rows_and_more_examples_keep_more(paper: DryRun) -> None:
    assert estimate(editor_that_trains("paper"), 8, 60).kept_total == pytest.approx(2 * paper.kept_total, rel=0.05)
    assert estimate(editor_that_trains("paper"), 4, 120).kept_total > 1.3 * paper.kept_total


def _of_side(batch: EditBatch, side: int) -> EditBatch:
    """The same rows with pictures of noise."""
    size = len(batch)
    batch.source, batch.target = torch.rand(size, 3, side, side), torch.rand(size, 3, side, side)
    return batch


def _draws(editor: Editor, size: int, side: int) -> EditDraws:
    shape = (size, *editor.latent_shape(side, side))
    timesteps = torch.arange(size)
    return EditDraws(torch.randn(shape), torch.randn(shape), timesteps, torch.ones(size))


def test_blocks_that_are_computed_again_keep_less() -> None:
    plain, other = editor_that_trains("unet"), editor_that_trains("unet")
    other.unet.enable_gradient_checkpointing()
    runs = [estimate(editor, 2, 40, "bf16-mixed", is_cuda=True) for editor in (plain, other)]
    assert runs[1].kept["UNet"] < 0.8 * runs[0].kept["UNet"]
