"""`docs/numerics.md` speaks of every fact and every switch, and the tests it names are there."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from mgie_lit.faults import Faults

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "docs" / "numerics.md").read_text(encoding="utf-8")
LABELS = {"I": 5, "T": 7, "H": 4, "E": 4, "D": 5, "P": 3, "S": 2, "L": 5}


@pytest.mark.parametrize(
    "label", [f"{letter}{number}" for letter, last in LABELS.items() for number in range(1, last + 1)]
)
def test_each_fact_has_a_row(label: str) -> None:
    assert len(re.findall(rf"^\| {label} \|", TEXT, re.MULTILINE)) == 1


def test_each_fault_has_a_row_a_test_and_a_measurement() -> None:
    tests = (ROOT / "tests" / "test_faults.py").read_text(encoding="utf-8")
    assert len(fields(Faults)) >= 15
    for field in fields(Faults):
        assert f"`faults.{field.name}`" in TEXT, field.name
        assert f"def test_{field.name}(" in tests, field.name
        assert re.search(
            rf"^\| [^|]*`{field.name}`[^|]* \| .+", TEXT.split("### What each repair changes")[1], re.MULTILINE
        ), field.name


def test_named_test_files_and_functions_exist() -> None:
    files = set(re.findall(r"`(tests/[\w/.]+)`", TEXT))
    assert len(files) >= 15
    assert [name for name in files if not (ROOT / name).exists()] == []
    tests = (ROOT / "tests" / "test_faults.py").read_text(encoding="utf-8")
    assert [name for name in re.findall(r"`(test_\w+)`", TEXT) if f"def {name}(" not in tests] == []
