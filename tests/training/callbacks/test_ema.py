from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from mgie_lit.checkpoints.runs import EMA_KEY
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.errors import CheckpointError, ConfigError
from mgie_lit.training.callbacks.ema import ExponentialMovingAverage
from mgie_lit.training.module import EditModule

NAME = "unet.conv_in.weight"


class Trace(lightning.Callback):
    """Keeps one weight after every step, and what validation sees of it."""

    def __init__(self) -> None:
        self.steps: list[torch.Tensor] = []
        self.validated: list[torch.Tensor] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401
        self.steps.append(weight(pl_module))

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401
        self.validated.append(weight(pl_module))


def weight(module: EditModule) -> torch.Tensor:
    return dict(module.editor.named_parameters())[NAME].detach().clone()


Make = Callable[..., Any]


def train(make: tuple[Make, Make, Make], *callbacks: lightning.Callback, max_steps: int, **kwargs: Any) -> EditModule:  # noqa: ANN401
    make_module, make_data, make_trainer = make
    module: EditModule = make_module()
    trainer = make_trainer(max_steps=max_steps, callbacks=list(callbacks), **kwargs)
    trainer.fit(module, datamodule=make_data(module), ckpt_path=None)
    return module


@pytest.fixture
def make(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
) -> tuple[Make, Make, Make]:
    return make_module, make_data, make_trainer


def test_average_is_the_closed_form_and_only_of_what_trains(make: tuple[Make, Make, Make]) -> None:
    ema, trace = ExponentialMovingAverage(0.5), Trace()
    module = make[0]()
    start = weight(module)
    trainer = make[2](max_steps=3, callbacks=[ema, trace], limit_val_batches=0)
    trainer.fit(module, datamodule=make[1](module))
    checkpoint: dict[str, Any] = {}
    ema.on_save_checkpoint(trainer, module, checkpoint)
    stored = checkpoint[EMA_KEY]
    expected = start
    for update, value in enumerate(trace.steps):
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * value
    assert torch.allclose(stored["weights"][NAME], expected, atol=1e-6)
    assert not torch.allclose(expected, trace.steps[-1])
    assert set(stored["weights"]) == set(module.trainable_names)
    assert stored["num_updates"] == 3


@pytest.mark.parametrize("validate", [True, False])
def test_validation_sees_the_average_and_training_goes_on_with_the_weights(
    validate: bool, make: tuple[Make, Make, Make]
) -> None:
    plain, traced = Trace(), Trace()
    train(make, plain, max_steps=3, val_check_interval=2)
    train(make, ExponentialMovingAverage(0.5, validate=validate), traced, max_steps=3, val_check_interval=2)
    for first, second in zip(plain.steps, traced.steps, strict=True):
        assert torch.equal(first, second), "averaging must not touch the training"
    assert len(traced.validated) > 0
    assert torch.equal(traced.validated[0], traced.steps[1]) is not validate


class SaveAt(lightning.Callback):
    """Writes a checkpoint after some step."""

    def __init__(self, step: int, path: Path) -> None:
        self.step, self.path = step, path

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:  # noqa: ANN401
        if trainer.global_step == self.step and not self.path.exists():
            trainer.save_checkpoint(self.path)


def test_resumed_average_equals_the_straight_one(make: tuple[Make, Make, Make], tmp_path: Path) -> None:
    averages = []
    for checkpoint in (None, tmp_path / "a.ckpt"):
        ema = ExponentialMovingAverage(0.5)
        module = make[0]()
        trainer = make[2](max_steps=4, callbacks=[ema, SaveAt(2, tmp_path / "a.ckpt")], limit_val_batches=0)
        trainer.fit(module, datamodule=make[1](module), ckpt_path=checkpoint, weights_only=True)
        averages.append({key: value.clone() for key, value in ema._average.items()})
    straight, resumed = averages
    assert straight.keys() == resumed.keys()
    assert [key for key, value in straight.items() if not torch.equal(value, resumed[key])] == []
    stored = torch.load(tmp_path / "a.ckpt", weights_only=True)[EMA_KEY]["weights"]
    assert any(not torch.equal(value, straight[key]) for key, value in stored.items())


@pytest.mark.faults
def test_decay_out_of_range() -> None:
    with pytest.raises(ConfigError, match=r"callbacks.ema.decay: expected a number >= 0 and < 1, got 1.0"):
        ExponentialMovingAverage(1.0)


@pytest.mark.faults
def test_checkpoint_without_an_average() -> None:
    with pytest.raises(CheckpointError, match=r"callbacks.ema: expected a checkpoint with a moving average"):
        ExponentialMovingAverage().on_load_checkpoint(None, None, {})  # type: ignore[arg-type]
