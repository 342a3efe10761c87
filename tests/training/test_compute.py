from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from lightning.pytorch.callbacks import ModelCheckpoint

from mgie_lit.checkpoints.frozen import FROZEN_KEY
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.editor import Objective
from mgie_lit.errors import ConfigError
from mgie_lit.testing.random_data import random_batch, random_draws
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.callbacks.ema import ExponentialMovingAverage
from mgie_lit.training.compute import AS_IT_IS, Compute
from mgie_lit.training.module import EditModule

MakeModule = Callable[..., EditModule]
MakeData = Callable[..., EditDataModule]
MakeTrainer = Callable[..., lightning.Trainer]
SOURCES = {"guide.mllm": "a-folder", "autoencoder": "another"}


def fitted(
    make_module: MakeModule,
    make_data: MakeData,
    make_trainer: MakeTrainer,
    compute: Compute,
    *,
    resume: str | None = None,
    **options: Any,  # noqa: ANN401
) -> tuple[EditModule, lightning.Trainer]:
    module = make_module(sources=SOURCES, compute=compute)
    trainer = make_trainer(**options)
    trainer.fit(module, datamodule=make_data(module), ckpt_path=resume, weights_only=True)
    return module, trainer


def trained(module: EditModule) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in module.editor.named_parameters() if name in module.trainable_names}


def differences(one: EditModule, other: EditModule) -> list[str]:
    mine, theirs = trained(one), trained(other)
    return [name for name in mine if not torch.equal(mine[name], theirs[name])]


def test_frozen_bf16_trains_to_the_same_bits_and_resumes(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    parts = (make_module, make_data, make_trainer)
    precision = {"precision": "bf16-mixed"}
    plain, _ = fitted(*parts, AS_IT_IS, **precision)
    every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
    lowered, _ = fitted(*parts, Compute(), **precision, enable_checkpointing=True, callbacks=[every])
    types = {name: p.dtype for name, p in lowered.editor.named_parameters() if name in lowered.left_out}
    assert torch.bfloat16 in types.values()
    assert types["guide.mllm.language_model.model.norm.weight"] == torch.float32
    assert {p.dtype for p in trained(lowered).values()} == {torch.float32}
    assert differences(plain, lowered) == []
    checkpoint = torch.load(tmp_path / "step=1.ckpt", weights_only=True)
    assert checkpoint[FROZEN_KEY] == {prefix: part.as_record() for prefix, part in plain.frozen.items()}
    assert not any(name in checkpoint["state_dict"] for name in (f"editor.{name}" for name in lowered.left_out))
    resumed, _ = fitted(*parts, Compute(), **precision, resume=str(tmp_path / "step=1.ckpt"))
    assert differences(lowered, resumed) == []


@pytest.mark.parametrize("options", [{}, {"precision": "bf16-mixed"}])
def test_nothing_is_converted_in_float32_or_without_a_source(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer, options: dict[str, str]
) -> None:
    sources = {} if options else SOURCES
    module = make_module(sources=sources, compute=Compute())
    make_trainer(max_steps=1, **options).fit(module, datamodule=make_data(module))
    assert {parameter.dtype for parameter in module.editor.parameters()} == {torch.float32}


def gradients(compute: Compute) -> dict[str, torch.Tensor]:
    """Loss and gradients of a step of parts that were drawn alike."""
    editor = tiny_editor("kl").train()
    compute.begin(editor, (), "32-true")
    batch = random_batch(editor)
    loss = editor.losses(batch, random_draws(editor, batch), Objective()).loss
    loss.backward()  # type: ignore[no-untyped-call]
    grads = {name: parameter.grad for name, parameter in editor.named_parameters() if parameter.grad is not None}
    return {"loss": loss.detach(), **grads}


@pytest.fixture
def _alone(tmp_path: Path) -> Iterator[None]:
    """Compiled here and now, and nothing of it kept."""
    with pytest.MonkeyPatch.context() as patch, torch._inductor.config.patch(compile_threads=1):
        patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "compiled"))
        yield


@pytest.mark.slow
@pytest.mark.timeout(1200)  # inductor compiles for minutes where other things run
@pytest.mark.usefixtures("_alone")
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
class TestCompiled:
    @pytest.mark.parametrize("part", ["compile_unet", "compile_language_model"])
    def test_losses_and_gradients_are_the_plain_ones(self, backend: str, part: str) -> None:
        plain, compiled = gradients(AS_IT_IS), gradients(Compute(**{part: backend}))  # type: ignore[arg-type]
        assert plain.keys() == compiled.keys()
        for name, gradient in plain.items():
            scale = gradient.abs().max()  # 0 but for rounding at the biases of keys
            assert (compiled[name] - gradient).abs().max() <= 1e-5 * scale + 1e-10, name

    def test_they_train_resume_and_average_under_the_same_names(
        self, backend: str, make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
    ) -> None:
        parts = (make_module, make_data, make_trainer)
        compute = Compute(compile_unet=backend, compile_language_model=backend)
        average = ExponentialMovingAverage(decay=0.9, validate=True)
        every = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=1, save_top_k=-1)
        plain, _ = fitted(*parts, AS_IT_IS)
        limits = {"limit_val_batches": 0} if backend == "inductor" else {}  # which compiles for minutes
        module, _ = fitted(*parts, compute, enable_checkpointing=True, callbacks=[average, every], **limits)
        assert module.editor.unet.mid_block._compiled_call_impl is not None
        assert list(module.state_dict()) == list(plain.state_dict())
        for name, weight in trained(module).items():
            torch.testing.assert_close(weight, trained(plain)[name], rtol=1e-3, atol=1e-5)
        checkpoint = torch.load(tmp_path / "step=2.ckpt", weights_only=True)
        assert set(checkpoint["mgie_ema"]["weights"]) == set(module.trainable_names)
        again = make_module(sources=SOURCES)
        again.load_state_dict(checkpoint["state_dict"])
        assert differences(again, module) == []
        resumed, _ = fitted(*parts, compute, resume=str(tmp_path / "step=1.ckpt"), **limits)
        assert differences(resumed, module) == []
        resumed, _ = fitted(*parts, AS_IT_IS, resume=str(tmp_path / "step=1.ckpt"))
        for name, weight in trained(module).items():
            torch.testing.assert_close(weight, trained(resumed)[name], rtol=1e-3, atol=1e-5)


@pytest.mark.slow
def test_blocks_of_one_class_that_share_their_code_are_compiled_for_each_ones_size() -> None:
    given: list[list[Any]] = []

    def backend(graph: Any, inputs: list[Any]) -> Any:  # noqa: ANN401
        given.append(inputs)
        return graph.forward

    torch._dynamo.register_backend(backend, name="counting")
    unet = UNet2DConditionModel(
        block_out_channels=(4, 4, 8), down_block_types=("DownBlock2D",) * 3, up_block_types=("UpBlock2D",) * 3,
        mid_block_type="UNetMidBlock2D", layers_per_block=1, norm_num_groups=2, cross_attention_dim=2,
    )  # fmt: skip
    editor: Any = SimpleNamespace(unet=unet)
    with torch._dynamo.config.patch(cache_size_limit=1):
        Compute(compile_unet="counting").begin(editor, (), "32-true")
        unet(torch.zeros(1, 4, 8, 8), 0, torch.zeros(1, 1, 2))
    assert len(given) == 7
    assert not any(isinstance(value, torch.SymInt) for values in given for value in values), "sizes are known"


@pytest.mark.parametrize("part", ["compile_unet", "compile_language_model"])
def test_unknown_backend(part: str) -> None:
    with pytest.raises(ConfigError, match=rf"compute\.{part}: expected null or one of .*inductor.*, got inductr"):
        Compute(**{part: "inductr"})  # type: ignore[arg-type]


@pytest.mark.parametrize("switch", [{"checkpoint_language_model": True}, {"compile_language_model": "eager"}])
def test_new_rows_alone_say_what_has_no_effect(switch: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    editor: Any = tiny_editor("kl")
    editor.guide.train_embeddings = "new_rows"
    Compute(**switch).arrange(editor)
    (key,) = switch
    assert f"compute.{key}: has no effect with model.guide.train_embeddings=new_rows" in caplog.text


@pytest.mark.parametrize("switch", [{"checkpoint_language_model": True}, {"compile_language_model": "eager"}])
def test_system_without_a_language_model(switch: dict[str, Any]) -> None:
    editor = tiny_editor("kl")
    editor.guide = torch.nn.Identity()
    (key,) = switch
    with pytest.raises(ConfigError, match=rf"compute\.{key}: expected a system with a language model, got Identity"):
        Compute(**switch).arrange(editor)
