from __future__ import annotations

import pytest
import torch

from mgie_lit.doctor.precision import parse_precision
from mgie_lit.errors import ConfigError


@pytest.mark.parametrize(
    ("value", "name", "weights", "autocast"),
    [
        ("32-true", "32-true", None, None),
        (32, "32-true", None, None),
        (None, "32-true", None, None),
        ("bf16-mixed", "bf16-mixed", None, torch.bfloat16),
        ("bf16", "bf16-mixed", None, torch.bfloat16),
        (16, "16-mixed", None, torch.float16),
        ("bf16-true", "bf16-true", torch.bfloat16, None),
        ("16-true", "16-true", torch.float16, None),
        ("64-true", "64-true", torch.float64, None),
    ],
)
def test_lightnings_names(
    value: str | int | None, name: str, weights: torch.dtype | None, autocast: torch.dtype | None
) -> None:
    precision = parse_precision(value)
    assert (precision.name, precision.weights, precision.autocast) == (name, weights, autocast)


def test_mixed_precision_leaves_weights_as_they_are() -> None:
    assert parse_precision("bf16-mixed").of_weights(torch.float32) == torch.float32
    assert parse_precision("bf16-mixed").computes_in == torch.bfloat16


def test_true_precision_converts_numbers_but_no_integers() -> None:
    assert parse_precision("bf16-true").of_weights(torch.float32) == torch.bfloat16
    assert parse_precision("bf16-true").of_weights(torch.int64) == torch.int64
    assert parse_precision("bf16-true").computes_in == torch.bfloat16
    assert parse_precision(None).computes_in == torch.float32


@pytest.mark.faults
@pytest.mark.parametrize("value", ["transformer-engine", "8-true", "32-mixed", "bf16-fast", 7])
def test_unknown_precision(value: str | int) -> None:
    with pytest.raises(ConfigError, match=rf"trainer\.precision: expected 32-true, bf16-mixed, .*, got {value}$"):
        parse_precision(value)
