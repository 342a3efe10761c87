from __future__ import annotations

import math

import pytest

from mgie_lit.config.ranges import ValueRange, range_faults


@pytest.mark.faults
@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer.lr", 0, "optimizer.lr: expected a number > 0, got 0"),
        ("optimizer.lr", "abc", "optimizer.lr: expected a number > 0, got 'abc'"),
        ("optimizer.lr", math.nan, "optimizer.lr: expected a number > 0, got nan"),
        ("optimizer.lr", math.inf, "optimizer.lr: expected a number > 0, got inf"),
        ("optimizer.lr_scale.unet", -1, "optimizer.lr_scale.unet: expected a number >= 0, got -1"),
        ("trainer.max_steps", 0, "trainer.max_steps: expected a whole number >= 1, or -1, got 0"),
        ("trainer.max_steps", -2, "trainer.max_steps: expected a whole number >= 1, or -1, got -2"),
        ("trainer.max_steps", True, "trainer.max_steps: expected a whole number >= 1, or -1, got True"),
        ("data.batch_size", 2.5, "data.batch_size: expected a whole number >= 1, got 2.5"),
        ("data.loader.batch_size", 0, "data.loader.batch_size: expected a whole number >= 1, got 0"),
        ("sampler.num_inference_steps", 0, "sampler.num_inference_steps: expected a whole number >= 1, got 0"),
        (
            "sampling.guidance_interval",
            [0.2, 1.5],
            "sampling.guidance_interval: expected 2 numbers >= 0 and <= 1, got [0.2, 1.5]",
        ),
        ("sampler.options.guidance_scale", -0.1, "sampler.options.guidance_scale: expected a number >= 0, got -0.1"),
        ("objective.drop_prob", 1.5, "objective.drop_prob: expected a number >= 0 and <= 1, got 1.5"),
        ("seed", -1, "seed: expected a whole number >= 0, got -1"),
        ("optimizer.betas", [0.9, 1.0], "optimizer.betas: expected 2 numbers >= 0 and < 1, got [0.9, 1.0]"),
        ("optimizer.betas", [-0.1, 0.9], "optimizer.betas: expected 2 numbers >= 0 and < 1, got [-0.1, 0.9]"),
        ("optimizer.betas", [0.9], "optimizer.betas: expected 2 numbers >= 0 and < 1, got [0.9]"),
        ("optimizer.betas", 0.9, "optimizer.betas: expected 2 numbers >= 0 and < 1, got 0.9"),
        ("objective.target_variance", 0, "objective.target_variance: expected a number > 0, got 0"),
        ("data.reader.seed", -1, "data.reader.seed: expected a whole number >= 0, got -1"),
        ("data.reader.families.scene", -0.5, "data.reader.families.scene: expected a number >= 0, got -0.5"),
        ("trainer.devices", 0, "trainer.devices: expected a whole number >= 1, or auto, got 0"),
        ("trainer.devices", "all", "trainer.devices: expected a whole number >= 1, or auto, got 'all'"),
        ("trainer.val_check_interval", 0, "trainer.val_check_interval: expected a number > 0, got 0"),
        ("trainer.limit_val_batches", -1, "trainer.limit_val_batches: expected a number >= 0, got -1"),
    ],
)
def test_value_out_of_range(key: str, value: object, message: str) -> None:
    assert list(range_faults({key: value})) == [message]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("optimizer.lr", 1e-8),
        ("optimizer.lr", None),
        ("trainer.max_steps", -1),
        ("trainer.max_steps", 1),
        ("data.batch_size", 1),
        ("objective.drop_prob", 0),
        ("unknown.key", "anything"),
        ("optimizer.betas", [0, 0.999]),
        ("optimizer.betas", None),
        ("data.reader.families.scene", 0),
        ("trainer.devices", 2),
        ("trainer.devices", "auto"),
        ("trainer.val_check_interval", None),
        ("trainer.val_check_interval", 0.25),
        ("trainer.limit_val_batches", 0),
    ],
)
def test_value_in_range(key: str, value: object) -> None:
    assert list(range_faults({key: value})) == []


def test_unlimited_range_takes_any_finite_number() -> None:
    assert str(ValueRange("x")) == "a number"
    assert ValueRange("x").fault(-1e9) is None
