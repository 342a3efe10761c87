"""A batch whose loss is no number: the training stops, goes on without it, or goes back."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning
import pytest
import torch
from torch import distributed, multiprocessing

from mgie_lit.checkpoints.runs import EMA_KEY
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.errors import ConfigError, TrainingError
from mgie_lit.training.callbacks.checkpoint import StepCheckpoint
from mgie_lit.training.callbacks.ema import ExponentialMovingAverage
from mgie_lit.training.callbacks.non_finite import NonFiniteGuard
from mgie_lit.training.module import EditModule

pytestmark = pytest.mark.faults


class Poison(lightning.Callback):
    """Makes the loss (or only the gradient) of some steps NaN; keeps the ids of their samples and all weights."""

    def __init__(self, *steps: int, gradient: bool = False) -> None:
        self.steps = steps
        self.gradient = gradient
        self.ids: dict[int, list[str]] = {}
        self.weights: dict[int, dict[str, torch.Tensor]] = {}
        self.logged: dict[str, float] = {}

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:  # noqa: ANN401
        step = trainer.global_step + 1
        self.ids.setdefault(step, []).extend(batch.sample_ids)
        if step in self.steps and not self.gradient:
            batch.target[:] = math.nan

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:  # noqa: ANN401
        if trainer.global_step + 1 in self.steps and self.gradient:
            pl_module.editor.unet.conv_in.weight.grad[0] = math.inf

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:  # noqa: ANN401
        self.weights[trainer.global_step] = {key: value.clone() for key, value in pl_module.state_dict().items()}
        self.logged |= {key: float(value) for key, value in trainer.callback_metrics.items()}


Train = Callable[..., EditModule]


@pytest.fixture
def train(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
    tmp_path: Path,
) -> Train:
    """Trains 5 steps with a guard and a poison, and a checkpoint every ``every`` steps."""

    def fit(poison: Poison, *, every: int = 1, resume: Path | None = None, trainer: Any = None, **guard: Any) -> Any:  # noqa: ANN401
        module = make_module()
        callbacks = [
            poison,
            NonFiniteGuard(tmp_path, **guard),
            ExponentialMovingAverage(0.5),
            StepCheckpoint(
                tmp_path / "checkpoints",
                "step-{step}",
                auto_insert_metric_name=False,
                every_n_train_steps=every,
                save_top_k=-1,
            ),
        ]
        settings = {"max_steps": 5, "limit_val_batches": 0, "enable_checkpointing": True} | (trainer or {})
        made = make_trainer(callbacks=callbacks, **settings)
        made.fit(module, datamodule=make_data(module), ckpt_path=resume, weights_only=True)
        return module

    return fit


def stored(folder: Path, step: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / "checkpoints" / f"step-{step}.ckpt", weights_only=True)
    return content


def adam_steps(checkpoint: dict[str, Any]) -> set[float]:
    return {float(state["step"]) for state in checkpoint["optimizer_states"][0]["state"].values()}


def is_finite(checkpoint: dict[str, Any]) -> bool:
    return all(bool(value.isfinite().all()) for value in checkpoint["state_dict"].values())


def test_stop_names_samples_step_and_checkpoint(train: Train, tmp_path: Path) -> None:
    poison = Poison(3)
    with pytest.raises(TrainingError) as raised:
        train(poison)
    names = ", ".join(poison.ids[3])
    assert f"step 3: expected a finite loss, got NaN or Inf with {names};" in str(raised.value)
    assert f"The last checkpoint is {tmp_path / 'checkpoints' / 'step-2.ckpt'}." in str(raised.value)
    kept = sorted(path.name for path in (tmp_path / "checkpoints").glob("*.ckpt"))
    assert kept == ["step-1.ckpt", "step-2.ckpt"], "no checkpoint of bad weights is written"
    assert is_finite(stored(tmp_path, 2))


def test_stop_looks_one_step_later_where_nothing_is_saved(train: Train) -> None:
    """Not in the step itself: that would make the host wait for the device."""
    poison = Poison(2)
    with pytest.raises(TrainingError, match=r"step 2: .* There is no checkpoint yet"):
        train(poison, every=100)
    assert max(poison.weights) == 2, "the third step did not end"


def test_stop_notices_the_last_step(train: Train, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 5: expected a finite loss"):
        train(Poison(5), every=100)
    assert list((tmp_path / "checkpoints").glob("*.ckpt")) == []


def test_validation_of_bad_weights_does_not_begin(train: Train) -> None:
    with pytest.raises(TrainingError, match="step 2: expected a finite loss"):
        train(Poison(2), every=100, trainer={"limit_val_batches": 1.0, "val_check_interval": 2})


def test_gradient_alone_and_batches_that_are_summed_up(train: Train) -> None:
    poison = Poison(2, gradient=True)
    expected = r"step 2: expected a finite gradient \(of finite losses\), got NaN or Inf with (.*); the training"
    with pytest.raises(TrainingError, match=expected) as raised:
        train(poison, trainer={"accumulate_grad_batches": 2, "max_steps": 3})
    assert ", ".join(poison.ids[2]) in str(raised.value)


def test_skip_leaves_weights_optimizer_and_average(train: Train, tmp_path: Path, caplog: Any) -> None:  # noqa: ANN401
    poison = Poison(3)
    with caplog.at_level(logging.WARNING):
        train(poison, action="skip")
    before, after, end = (stored(tmp_path, step) for step in (2, 3, 5))
    for name, value in before["state_dict"].items():
        assert torch.equal(value, after["state_dict"][name]), name
        assert torch.equal(value, poison.weights[3][name]), name
    assert [adam_steps(checkpoint) for checkpoint in (before, after, end)] == [{2.0}, {2.0}, {4.0}]
    assert [checkpoint[EMA_KEY]["num_updates"] for checkpoint in (before, after, end)] == [2, 2, 4]
    for name, value in before[EMA_KEY]["weights"].items():
        assert torch.equal(value, after[EMA_KEY]["weights"][name]), name
    assert after["global_step"] == 3, "a skipped step counts"
    assert is_finite(end)
    assert any(not torch.equal(value, end["state_dict"][name]) for name, value in after["state_dict"].items())
    assert poison.logged["train/skipped_steps"] == 1
    assert f"{', '.join(poison.ids[3])}; the step was skipped (1 so far)" in caplog.text


def test_count_of_skipped_steps_survives_a_resume(train: Train, tmp_path: Path) -> None:
    train(Poison(2), action="skip")
    poison = Poison(5)
    train(poison, action="skip", resume=tmp_path / "checkpoints" / "step-4.ckpt")
    assert poison.logged["train/skipped_steps"] == 2


def test_skip_has_an_end(train: Train) -> None:
    expected = r"step 4: .* one more than the 2 steps in a row .*max_in_a_row.*step-3\.ckpt"
    with pytest.raises(TrainingError, match=expected):
        train(Poison(2, 3, 4, 5), action="skip", max_in_a_row=2)


def test_rollback_takes_everything_from_the_last_checkpoint(train: Train, tmp_path: Path, caplog: Any) -> None:  # noqa: ANN401
    poison = Poison(4)
    with caplog.at_level(logging.WARNING):
        train(poison, every=2, action="rollback")
    old, new, end = (stored(tmp_path, step) for step in (2, 4, 5))
    for name, value in old["state_dict"].items():
        assert torch.equal(value, new["state_dict"][name]), name
    assert any(not torch.equal(value, new["state_dict"][name]) for name, value in poison.weights[3].items())
    assert [adam_steps(checkpoint) for checkpoint in (old, new, end)] == [{2.0}, {2.0}, {3.0}]
    for name, value in old[EMA_KEY]["weights"].items():
        assert torch.equal(value, new[EMA_KEY]["weights"][name]), name
    assert [checkpoint[EMA_KEY]["num_updates"] for checkpoint in (old, new, end)] == [2, 2, 3]
    assert len({*poison.ids[4]} & {*poison.ids[5]}) == 0, "the data go on after the bad batch"
    assert is_finite(end)
    assert "went back to" in caplog.text
    rates = [[group["lr"] for group in checkpoint["optimizer_states"][0]["param_groups"]] for checkpoint in (old, new)]
    assert rates[0] != rates[1], "the schedule goes on"


def test_rollback_has_an_end(train: Train) -> None:
    with pytest.raises(TrainingError, match=r"max_rollbacks: expected at most 1 steps .* got one more"):
        train(Poison(3, 4), action="rollback", max_rollbacks=1)


def test_good_steps_are_not_changed_by_a_guard(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
    tmp_path: Path,
) -> None:
    weights = []
    for callbacks in ([], [NonFiniteGuard(tmp_path, "skip")], [NonFiniteGuard(tmp_path)]):
        module = make_module()
        make_trainer(callbacks=callbacks, max_steps=2, limit_val_batches=0).fit(module, datamodule=make_data(module))
        weights.append(module.state_dict())
    for other in weights[1:]:
        assert all(torch.equal(value, other[name]) for name, value in weights[0].items())


def test_unknown_action(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"non_finite\.action: expected one of stop, skip, rollback, got no"):
        NonFiniteGuard(tmp_path, "no")


def one_of_two(rank: int, folder: str) -> None:
    """A step whose loss is NaN in the second process only."""
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    trainer: Any = SimpleNamespace(global_step=6, callbacks=[], precision_plugin=None)
    module: Any = SimpleNamespace(log=lambda *_: None)
    guard = NonFiniteGuard(folder, "skip")
    guard._trainer = trainer
    said = Path(folder) / f"said-{rank}"
    logging.getLogger("mgie_lit").addHandler(logging.FileHandler(said))
    decisions = []
    for value in (1.0, math.nan if rank else 1.0):
        guard.on_train_batch_start(trainer, module, SimpleNamespace(sample_ids=[f"of-{rank}"]), 0)  # type: ignore[arg-type]
        guard.on_before_backward(trainer, module, torch.tensor(value))
        decisions.append(guard._check(module, torch.optim.SGD([torch.zeros(1)]), torch.tensor(1.0)))
    torch.save(decisions, f"{folder}/{rank}.pt")
    distributed.destroy_process_group()


@pytest.mark.slow
def test_processes_decide_alike_and_name_the_samples_of_all(tmp_path: Path) -> None:
    multiprocessing.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    assert [torch.load(tmp_path / f"{rank}.pt") for rank in range(2)] == [[True, False]] * 2
    assert (
        "step 7: expected a finite loss, got NaN or Inf with of-1; the step was skipped"
        in (tmp_path / "said-0").read_text()
    )
