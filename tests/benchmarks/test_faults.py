from __future__ import annotations

import json
import sys
from pathlib import Path

import faults
import pytest


@pytest.mark.slow
def test_every_fault_is_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["faults.py", "--examples", "4", "--json", str(tmp_path / "rows.json")])
    faults.main()
    rows = json.loads((tmp_path / "rows.json").read_text())
    assert list(rows) == list(faults.MEASUREMENTS)
    assert rows["demo_images"].startswith("L1 of 3 whole photographs made gray 0.0")
