"""Validation of several processes: each takes a share, and all of them log what one process alone would."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.plugins.precision import MixedPrecision
from lightning.pytorch.strategies import FSDPStrategy
from PIL import Image
from torch import distributed, multiprocessing

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.editor import Objective
from mgie_lit.metrics.pixel import L1, SSIM
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.testing.random_data import RandomDataset, tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.callbacks.evaluate import EvaluateEdits
from mgie_lit.training.compute import AS_IT_IS, BF16_MIXED, Compute
from mgie_lit.training.module import EditModule

OPTIONS = SamplingOptions(num_inference_steps=1, guidance_scale=1.0, image_guidance_scale=1.0, resolution=16)


class CountingData(RandomDataset):
    """Counts what is read."""

    read: set[int] = set()  # noqa: RUF012

    def __getitem__(self, index: int) -> Any:  # noqa: ANN401
        CountingData.read.add(index)
        return super().__getitem__(index)


def validate(folder: Path, num_examples: int, rank: int = 0, world_size: int = 1) -> dict[str, Any]:
    """What the trainer does when it validates, with a trainer that only knows its rank."""
    torch.manual_seed(0)
    editor = tiny_editor("kl").eval()
    module = EditModule(editor, Objective(), None, None, trainable=["unet.*"], seed=5)  # type: ignore[arg-type]
    data = EditDataModule(
        CountingData,
        tiny_collator(editor.guide),
        num_examples={"train": 4, "val": num_examples, "test": 1},
        batch_size=2,
    )
    data.trainer = SimpleNamespace(  # type: ignore[assignment]
        global_rank=rank,
        world_size=world_size,
        strategy=None,
        datamodule=data,
        global_step=7,
        loggers=[],
        precision="32-true",
    )
    logged: dict[str, Any] = {}
    module.log = lambda name, value, **_: logged.update({name: float(value)})  # type: ignore[assignment,method-assign]
    module.log_dict = logged.update  # type: ignore[assignment,method-assign]
    CountingData.read.clear()
    with torch.no_grad():
        module.on_validation_epoch_start()
        for index, batch in enumerate(data.val_dataloader()):
            module.validation_step(batch, index)  # type: ignore[arg-type]
        logged["losses read"] = len(CountingData.read)
        CountingData.read.clear()
        callback = EvaluateEdits(
            {"l1": L1(), "ssim": SSIM()}, OPTIONS, folder, num_examples=5, num_images=3, batch_size=2
        )
        callback.on_validation_epoch_end(data.trainer, module)  # type: ignore[arg-type]
        logged["edits read"] = len(CountingData.read)
        module.on_validation_epoch_end()
    return logged


def mixed_score(folder: Path, compute: Compute) -> float:
    """Mean L1 of a validation's edits in a training in mixed precision with frozen weights that can be loaded again."""
    editor = tiny_editor("kl").eval()
    module = EditModule(
        editor, Objective(), None, None, trainable=["unet.*"], sources={"guide.mllm": "a", "autoencoder": "b"},  # type: ignore[arg-type]
        compute=compute,
    )  # fmt: skip
    data = EditDataModule(RandomDataset, tiny_collator(editor.guide), num_examples={"val": 3}, batch_size=2)
    plugin = MixedPrecision(BF16_MIXED, "cpu")
    trainer: Any = SimpleNamespace(
        global_rank=0, world_size=1, strategy=None, datamodule=data, precision=BF16_MIXED, precision_plugin=plugin
    )
    data.trainer = trainer
    logged: dict[str, float] = {}
    module.log_dict = logged.update  # type: ignore[assignment,method-assign]
    compute.begin(editor, module.left_out, trainer.precision)
    with torch.no_grad():
        callback = EvaluateEdits({"l1": L1()}, OPTIONS, folder, num_examples=3, num_images=0, batch_size=2)
        callback.on_validation_epoch_end(trainer, module)
    return logged["val/l1"]


def test_frozen_matrices_in_bfloat16_edit_as_mixed_precision_does(tmp_path: Path) -> None:
    in_float32 = mixed_score(tmp_path, AS_IT_IS)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = mixed_score(tmp_path, AS_IT_IS)
    assert mixed_score(tmp_path, Compute()) == mixed, "not to the last bit"
    assert in_float32 != mixed, "without converted matrices edits are in float32"
    assert in_float32 == pytest.approx(mixed, rel=1e-2)


SIZES = (7, 2)  # batches of 2, 2, 2, 1; and a single batch, which can not be shared


def one_of_two(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    logged = {size: validate(Path(folder) / f"two-{size}", size, rank, 2) for size in SIZES}
    (Path(folder) / f"rank-{rank}.json").write_text(json.dumps(logged))
    distributed.destroy_process_group()


def test_two_processes_share_a_validation_and_log_what_one_does(tmp_path: Path) -> None:
    multiprocessing.spawn(one_of_two, args=(str(tmp_path),), nprocs=2)
    ranks = [json.loads((tmp_path / f"rank-{rank}.json").read_text()) for rank in range(2)]
    reads = {}
    for size in SIZES:
        alone = validate(tmp_path / f"one-{size}", size)
        logs = [alone, *(rank[str(size)] for rank in ranks)]
        reads[size] = [(log.pop("losses read"), log.pop("edits read")) for log in logs]
        assert {"val/loss", "val/loss_edit", "val/loss_lm", "val/l1", "val/copy_ssim"} < set(alone)
        assert logs[1] == alone, "not to the last bit"
        assert logs[2] == alone, "not to the last bit"
        grids = [np.asarray(Image.open(tmp_path / f"{who}-{size}/images/step-00000007.png")) for who in ("one", "two")]
        assert np.array_equal(*grids)
    assert reads[7] == [(7, 5), (4, 3), (3, 2)], "of the seven five are edited"
    assert reads[2] == [(2, 2), (2, 2), (2, 2)], "both do it, and it counts once"


def test_ranks_share_batches_without_padding() -> None:
    shares = []
    for rank in range(3):
        data = EditDataModule(RandomDataset, None, num_examples={}, batch_size=2)  # type: ignore[arg-type]
        data.trainer = SimpleNamespace(global_rank=rank, world_size=3, strategy=None)  # type: ignore[assignment]
        shares.append(data.share_of_batches(9, 2))
    assert shares == [[0, 1, 6, 7], [2, 3, 8], [4, 5]]


def test_weights_that_are_spread_over_ranks_need_all_of_them() -> None:
    data = EditDataModule(RandomDataset, None, num_examples={}, batch_size=2)  # type: ignore[arg-type]
    data.trainer = SimpleNamespace(global_rank=1, world_size=2, strategy=FSDPStrategy())  # type: ignore[assignment]
    assert data.share_of_batches(5, 2) == [0, 1, 2, 3, 4]
