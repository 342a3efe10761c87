from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mgie_lit.report.build import write_report

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def test_page_and_tables_are_in_wandb_offline_beside_the_page(
    tmp_path: Path, make_evaluation: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_SILENT", "true")
    folders = [make_evaluation(tmp_path / name, 6, pictures=False) for name in ("a", "b")]
    write_report(folders, tmp_path / "out" / "report.html", wandb_project="mine")
    (run,) = (tmp_path / "out" / "wandb").glob("offline-run-*")
    names = {path.name.rsplit("_", 2)[0] for path in run.glob("files/media/table/report/*")}
    assert names == {"systems", "paired_differences", "paired_differences_by_category"}
    assert len(list(run.glob("files/media/html/report/*.html"))) == 1
    assert b"mine" in next(run.glob("*.wandb")).read_bytes()


def test_an_outage_leaves_the_report(
    tmp_path: Path,
    make_evaluation: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("wandb.init", lambda **_: (_ for _ in ()).throw(ConnectionError("no network")))
    write_report([make_evaluation(tmp_path / "a", 6, pictures=False)], tmp_path / "report.html", wandb_project="mine")
    assert (tmp_path / "report.html").is_file()
    assert "report.html could not be handed over (no network)" in caplog.text
