from __future__ import annotations

import pytest
from omegaconf import DictConfig, OmegaConf

from mgie_lit.config.changes import check_changes, step_size
from mgie_lit.errors import ConfigError


def trained(**changes: object) -> DictConfig:
    """A run of 16 examples a step: 2 processes, 2 batches of 4 each."""
    config = OmegaConf.create(
        {
            "seed": 0,
            "effective_batch_size": 16,
            "data": {"batch_size": 4, "num_workers": 0, "root": "here", "num_examples": {"train": 64, "val": 8}},
            "trainer": {
                "accelerator": "cpu", "devices": 2, "accumulate_grad_batches": 2, "max_steps": 8,
                "val_check_interval": 4, "precision": "32-true",
            },
            "optimizer": {"lr": 1e-3},
            "faults": {"overlapping_ranks": False},
            "callbacks": {"checkpoint": {"every_n_train_steps": 2}},
        }
    )  # fmt: skip
    for key, value in changes.items():
        OmegaConf.update(config, key.replace("__", "."), value)
    return config


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"trainer__max_steps": 100},
        {"data__num_workers": 2},
        {"callbacks__checkpoint__every_n_train_steps": 1},
        {"data__num_examples__val": 4},
        {"trainer__devices": 1, "data__batch_size": 8},
        {"trainer__devices": 4, "trainer__accumulate_grad_batches": 1},
    ],
)
def test_what_moves_no_step_is_free(changes: dict[str, object]) -> None:
    check_changes(trained(), trained(**changes), [])


@pytest.mark.parametrize(
    ("changes", "accumulation", "interval"),
    [
        ({"trainer__devices": 1}, 4, 8),
        ({"trainer__devices": 4}, 1, 2),
        ({"data__batch_size": 2}, 4, 8),
        ({"trainer__devices": 4, "data__batch_size": 1}, 4, 8),
        ({"trainer__devices": 1, "trainer__val_check_interval": 5}, 4, 5),
    ],
)
def test_a_step_keeps_its_examples_however_it_is_shared(
    changes: dict[str, object], accumulation: int, interval: int
) -> None:
    config = trained(**changes)
    check_changes(trained(), config, [])
    assert step_size(config) == 16
    assert config.trainer.accumulate_grad_batches == accumulation
    assert config.trainer.val_check_interval == interval, "validations stay at the same steps"


@pytest.mark.faults
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": 1}, r"^seed: 0 -> 1: expected the run as it was trained; .*resume_allow=\[seed\]$"),
        ({"data__root": "there"}, r"data\.root: here -> there"),
        ({"data__num_examples__train": 32}, r"data\.num_examples\.train: 64 -> 32"),
        ({"trainer__precision": "bf16-mixed"}, r"trainer\.precision: 32-true -> bf16-mixed"),
        ({"trainer__accumulate_grad_batches": 4}, r"trainer\.accumulate_grad_batches: 2 -> 4"),
        ({"effective_batch_size": 32}, r"effective_batch_size: 16 -> 32"),
        ({"optimizer__lr": 1.0}, r"optimizer\.lr: 0\.001 -> 1\.0: kept in the checkpoint, .* start a new run"),
        ({"trainer__devices": 3}, r"trainer\.devices: expected a number of processes that can share the run's 16"),
        ({"seed": 1, "data__root": "b"}, r"seed: 0 -> 1.*\n.*data\.root: here -> b.*resume_allow=\[seed,data\.root\]"),
    ],
)
def test_what_would_make_it_another_training(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_changes(trained(), trained(**changes), [])


@pytest.mark.faults
def test_ranks_that_draw_their_own_order_can_not_change() -> None:
    before = trained(faults__overlapping_ranks=True)
    with pytest.raises(ConfigError, match=r"trainer\.devices: 2 -> 1"):
        check_changes(before, trained(faults__overlapping_ranks=True, trainer__devices=1), [])


@pytest.mark.faults
@pytest.mark.parametrize("key", ["data__max_aspect", "data__length_buckets"])
def test_examples_that_share_a_batch_go_on_to_do_so(key: str) -> None:
    before = trained(**{key: 2})
    check_changes(before, trained(**{key: 2}, trainer__devices=1), [])
    with pytest.raises(ConfigError, match=r"data\.batch_size: 4 -> 8"):
        check_changes(before, trained(**{key: 2}, trainer__devices=1, data__batch_size=8), [])


def test_what_is_named_may_change() -> None:
    check_changes(trained(), trained(seed=1, data__root="there"), ["seed", "data"])
    config = trained(effective_batch_size=32)
    check_changes(trained(), config, ["effective_batch_size", "trainer.accumulate_grad_batches"])
    assert step_size(config) == 32
    with pytest.raises(ConfigError, match=r"optimizer\.lr"):
        check_changes(trained(), trained(optimizer__lr=1.0), ["optimizer.lr"])
