from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from mgie_lit.checkpoints.frozen import FROZEN_KEY
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.errors import ConfigError
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


@pytest.mark.slow
def test_compiled_blocks_train_resume_and_average_under_the_same_names(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    parts = (make_module, make_data, make_trainer)
    compute = Compute(compile_unet="aot_eager")
    average = ExponentialMovingAverage(decay=0.9, validate=True)
    plain, _ = fitted(*parts, AS_IT_IS)
    module, trainer = fitted(*parts, compute, callbacks=[average])
    assert module.editor.unet.mid_block._compiled_call_impl is not None
    assert list(module.state_dict()) == list(plain.state_dict())
    for name, weight in trained(module).items():
        torch.testing.assert_close(weight, trained(plain)[name], rtol=1e-3, atol=1e-5)
    trainer.save_checkpoint(tmp_path / "end.ckpt")
    checkpoint = torch.load(tmp_path / "end.ckpt", weights_only=True)
    assert set(checkpoint["mgie_ema"]["weights"]) == set(module.trainable_names)
    again = make_module(sources=SOURCES)
    again.load_state_dict(checkpoint["state_dict"])
    assert differences(again, module) == []


def test_unknown_backend() -> None:
    with pytest.raises(ConfigError, match=r"compute\.compile_unet: expected null or one of .*inductor.*, got inductr"):
        Compute(compile_unet="inductr")


def test_system_without_a_language_model(make_module: MakeModule) -> None:
    editor = tiny_editor("kl")
    editor.guide = torch.nn.Identity()
    with pytest.raises(ConfigError, match=r"compute\.checkpoint_language_model: expected a system with a language"):
        Compute(checkpoint_language_model=True).arrange(editor)
