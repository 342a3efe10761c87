from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import pytest
import torch

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.editor import Objective
from mgie_lit.errors import ConfigError
from mgie_lit.models.freezing import frozen_roots
from mgie_lit.models.layout import lay_for_editing
from mgie_lit.sampling.call import call_editor
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.testing.random_data import random_batch, random_image
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.module import EditModule

MakeModule = Callable[..., EditModule]
MakeData = Callable[..., EditDataModule]
MakeTrainer = Callable[..., lightning.Trainer]


class Watch(lightning.Callback):
    """Looks at modes and gradients when a step's gradients are there and clipped."""

    def __init__(self) -> None:
        self.steps = 0
        self.grad_norms: list[float] = []

    def on_before_optimizer_step(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        self.steps += 1
        editor: Any = pl_module.editor
        for name, parameter in editor.named_parameters():
            assert (parameter.grad is not None) == (name in pl_module.trainable_names), name
        assert editor.unet.training
        assert editor.guide.edit_head.training
        for frozen in (editor.autoencoder, editor.guide.mllm.vision_tower, editor.guide.mllm.projector):
            assert not any(part.training for part in frozen.modules())
        assert not editor.guide.mllm.language_model.model.layers.training

    def on_train_batch_end(self, trainer: lightning.Trainer, *_: Any) -> None:  # noqa: ANN401
        self.grad_norms.append(trainer.callback_metrics["train/grad_norm"].item())


def test_frozen_parts_are_bit_equal_after_training(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    module, watch = make_module(), Watch()
    before = {name: parameter.detach().clone() for name, parameter in module.editor.named_parameters()}
    make_trainer(callbacks=[watch], limit_val_batches=1, val_check_interval=1).fit(module, datamodule=make_data(module))
    assert watch.steps == 2
    assert len(module.trainable_names) > 100
    moved = [name for name, parameter in module.editor.named_parameters() if not torch.equal(parameter, before[name])]
    assert set(moved) <= set(module.trainable_names)
    assert len(moved) > 0.9 * len(module.trainable_names), "nearly all of what trains has moved"
    assert all(p.grad is None for n, p in module.editor.named_parameters() if n not in module.trainable_names)


def test_what_has_edited_trains_with_the_plain_layout(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    module = make_module()
    lay_for_editing(module.editor)
    assert not all(parameter.is_contiguous() for parameter in module.editor.parameters())
    make_trainer(max_steps=1).fit(module, datamodule=make_data(module))
    assert all(parameter.is_contiguous() for parameter in module.editor.parameters())


def test_an_edit_in_the_middle_of_a_training_changes_nothing(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    class Edits(lightning.Callback):
        def on_train_batch_end(self, _: object, pl_module: lightning.LightningModule, *args: object) -> None:
            editor: Any = pl_module.editor
            editor.eval()
            with torch.random.fork_rng():
                call_editor(
                    editor,
                    SamplingOptions(resolution=16, num_inference_steps=1),
                    random_image(16, 16, seed=0),
                    "go",
                    generator=None,
                )
            pl_module.train()

    ends = []
    for callbacks in ([], [Edits()]):
        module = make_module()
        make_trainer(max_steps=3, callbacks=callbacks).fit(module, datamodule=make_data(module))
        ends.append(module.state_dict())
    assert [name for name, value in ends[0].items() if not torch.equal(value, ends[1][name])] == []


def test_frozen_roots_stay_in_eval_mode(make_module: MakeModule) -> None:
    module = make_module()
    roots = frozen_roots(module.editor)
    assert module.editor.autoencoder in roots
    assert module.editor.guide.mllm.vision_tower in roots
    for mode in (None, True, False, True):
        if mode is not None:
            module.train(mode)
        assert not any(part.training for root in roots for part in root.modules())
        assert module.editor.unet.training == (mode is not False)


def test_optimizer_holds_what_trains_and_nothing_else(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    module = make_module()
    trainer = make_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, datamodule=make_data(module))
    (optimizer,) = trainer.optimizers
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    assert held == {id(p) for n, p in module.editor.named_parameters() if n in module.trainable_names}
    assert [group["name"] for group in optimizer.param_groups] == ["embeddings", "lm_head", "edit_head", "unet"]


def test_what_is_logged(make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    module = make_module(objective=Objective(loss_align_weight=1.0), editor=tiny_editor("patch", align=True))
    trainer = make_trainer(val_check_interval=1)
    trainer.fit(module, datamodule=make_data(module))
    losses = {
        f"{stage}/{name}" for stage in ("train", "val") for name in ("loss", "loss_edit", "loss_lm", "loss_align")
    }
    rates = {f"train/lr_{name}" for name in ("embeddings", "lm_head", "edit_head", "unet")}
    assert set(trainer.callback_metrics) == losses | rates | {"train/grad_norm"}
    metrics = trainer.callback_metrics
    assert metrics["train/lr_unet"] == pytest.approx(0.2 * metrics["train/lr_lm_head"].item())


def test_gradients_are_clipped_together_and_their_norm_is_logged_from_before(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    norms = {}
    for limit in (None, 0, 0.5):
        module, watch = make_module(), Watch()
        trainer = make_trainer(max_steps=1, gradient_clip_val=limit, callbacks=[watch], limit_val_batches=0)
        trainer.fit(module, datamodule=make_data(module))
        gradients = [parameter.grad.flatten() for parameter in module.editor.parameters() if parameter.grad is not None]
        norms[limit] = (watch.grad_norms[0], torch.cat(gradients).double().norm().item())
    assert norms[None][0] == norms[0][0] == norms[0.5][0] > 0.5
    assert norms[None][1] == norms[0][1] == pytest.approx(norms[None][0], rel=1e-3)
    assert norms[0.5][1] == pytest.approx(0.5, rel=1e-3)


def test_clipping_by_value_is_refused(make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer) -> None:
    module = make_module()
    trainer = make_trainer(max_steps=1, gradient_clip_algorithm="value", limit_val_batches=0)
    with pytest.raises(ConfigError, match=r"trainer.gradient_clip_algorithm: expected norm \(or null\), got value"):
        trainer.fit(module, datamodule=make_data(module))


def test_validation_draws_are_the_same_every_time(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    module = make_module()
    data, trainer = make_data(module), make_trainer()
    first, second = (trainer.validate(module, datamodule=data, verbose=False)[0] for _ in range(2))
    assert first == second
    assert set(first) == {"val/loss", "val/loss_edit", "val/loss_lm"}


def test_draws_change_with_epoch_and_seed(make_module: MakeModule) -> None:
    module, other = make_module(), make_module(seed=6)
    batch = random_batch(module.editor)
    losses = [module._losses(batch, 0), module._losses(batch, 1), other._losses(batch, 0), module._losses(batch, 0)]
    values = [losses_of.loss_edit.item() for losses_of in losses]
    assert len(set(values)) == 3
    assert values[0] == values[3]
    assert len({losses_of.loss_lm.item() for losses_of in losses if losses_of.loss_lm is not None}) == 1


def test_checkpoint_is_plain_data_with_the_config(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer, tmp_path: Path
) -> None:
    module = make_module()
    trainer = make_trainer(max_steps=1, limit_val_batches=0)
    trainer.fit(module, datamodule=make_data(module))
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    checkpoint = torch.load(tmp_path / "one.ckpt", weights_only=True)
    assert checkpoint["mgie_config"] == {"seed": 5, "size": {"resolution": 16}}
    assert checkpoint["global_step"] == 1
    assert len(checkpoint["optimizer_states"]) == 1
    weights = {name.removeprefix("editor."): value for name, value in checkpoint["state_dict"].items()}
    expected = module.editor.state_dict()
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], value) for name, value in expected.items())
    assert "guide.mllm.vision_tower.embeddings.class_embedding" in {
        name.replace("vision_model.", "") for name in weights
    }, "a frozen part that was made from a config can not be loaded again from elsewhere"


def test_unknown_pattern_is_refused(make_module: MakeModule) -> None:
    with pytest.raises(ValueError, match=r"trainable: pattern 'vnet\.\*' matches no parameter"):
        make_module(trainable=["vnet.*"])


def test_a_step_that_an_epoch_s_end_cuts_short_is_a_whole_one(
    make_module: MakeModule, make_data: MakeData, make_trainer: MakeTrainer
) -> None:
    """Two batches of a step of eight are the same step as one batch of their examples."""
    weights = {}
    for batch_size, accumulation in ((4, 1), (2, 8)):
        module = make_module(editor=tiny_editor("kl", seed=3))
        data = make_data(
            module,
            batch_size=batch_size,
            accumulation=accumulation,
            num_examples={"train": 4, "val": 1, "test": 1},
        )
        make_trainer(
            max_steps=1, accumulate_grad_batches=accumulation, limit_val_batches=0, gradient_clip_val=None
        ).fit(module, datamodule=data)
        assert module.global_step == 1
        weights[batch_size] = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
        assert weights[batch_size]
    for whole, short in zip(*weights.values(), strict=True):
        torch.testing.assert_close(short, whole, rtol=1e-3, atol=1e-6)
