from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mgie_lit.evaluation.files import write_whole

if TYPE_CHECKING:
    from pathlib import Path


def test_file_is_whole_or_not_there(tmp_path: Path) -> None:
    def fail(draft: Path) -> None:
        draft.write_text("half")
        raise OSError("disk full")

    path = tmp_path / "numbers.json"
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert list(tmp_path.iterdir()) == []

    write_whole(path, lambda draft: draft.write_text("all"))
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, fail)
    assert [entry.name for entry in tmp_path.iterdir()] == ["numbers.json"]
    assert path.read_text() == "all"


def test_draft_keeps_the_suffix(tmp_path: Path) -> None:
    seen: list[str] = []

    def write(draft: Path) -> None:
        seen.append(draft.suffix)
        draft.touch()

    write_whole(tmp_path / "grid.png", write)
    assert seen == [".png"]
