from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import lightning
import pytest

from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.editor import Objective
from mgie_lit.testing.random_data import RandomDataset, tiny_collator
from mgie_lit.testing.tiny_models import tiny_editor
from mgie_lit.training.module import EditModule
from mgie_lit.training.optim import adamw, warmup_cosine
from mgie_lit.training.trainer import ResumingTrainer

PAPER = ["guide.mllm.language_model.model.embed_tokens.*", "guide.mllm.language_model.lm_head.*"]
PAPER += ["guide.edit_head.*", "unet.*"]


@pytest.fixture
def make_module() -> Callable[..., EditModule]:
    """Makes a module of the paper's kind: noise prediction, embeddings, LM head, edit head and UNet train."""

    def make(**changes: Any) -> EditModule:  # noqa: ANN401
        return EditModule(
            changes.pop("editor", None) or tiny_editor("kl"),
            changes.pop("objective", Objective()),
            partial(adamw, lr=1e-3, lr_scale={"unet": 0.2}),
            partial(warmup_cosine, warmup_ratio=0.25),
            **{"trainable": PAPER, "seed": 5, "config": {"seed": 5, "size": {"resolution": 16}}} | changes,
        )

    return make


@pytest.fixture
def make_data() -> Callable[[EditModule], EditDataModule]:
    """Makes random data for a module: 3 batches of 2 an epoch."""

    def make(module: EditModule, **changes: Any) -> EditDataModule:  # noqa: ANN401
        sizes = {"train": 7, "val": 3, "test": 1}
        collator = tiny_collator(module.editor.guide)
        return EditDataModule(RandomDataset, collator, **{"num_examples": sizes, "batch_size": 2, "seed": 5} | changes)

    return make


@pytest.fixture
def make_trainer() -> Callable[..., lightning.Trainer]:
    """Makes a quiet trainer on the CPU."""

    def make(**changes: Any) -> lightning.Trainer:  # noqa: ANN401
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
        defaults = {"accelerator": "cpu", "devices": 1, "logger": False, "log_every_n_steps": 1, "max_steps": 2}
        defaults |= {"gradient_clip_val": 1.0, "num_sanity_val_steps": 0, "use_distributed_sampler": False}
        return ResumingTrainer(**quiet | defaults | changes)

    return make
