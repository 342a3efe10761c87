from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import lightning

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.training.callbacks.checkpoint import StepCheckpoint
from mgie_lit.training.module import EditModule


def test_last_step_is_kept_though_none_is_due(
    make_module: Callable[..., EditModule],
    make_data: Callable[..., EditDataModule],
    make_trainer: Callable[..., lightning.Trainer],
    tmp_path: Path,
) -> None:
    module = make_module()
    checkpoints = StepCheckpoint(
        tmp_path, "step-{step}", auto_insert_metric_name=False, every_n_train_steps=2, save_top_k=-1
    )
    trainer = make_trainer(max_steps=3, callbacks=[checkpoints], enable_checkpointing=True, limit_val_batches=0)
    trainer.fit(module, datamodule=make_data(module))
    assert {path.name for path in tmp_path.iterdir()} == {"step-2.ckpt", "step-3.ckpt"}
