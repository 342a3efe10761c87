"""The contact sheet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.preview import TILE_SIDE, contact_sheet, write_preview
from mgie_lit.types import EditExample


class _Rows:
    """A reader of rows that are given."""

    def __init__(self, rows: list[EditExample]) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> EditExample:
        return self.rows[index]

    def sample_id(self, index: int) -> str:
        return self.rows[index].sample_id


def _row(number: int = 0, **changes: object) -> EditExample:
    row = {
        "sample_id": f"row-{number}",
        "source": Image.new("RGB", (8, 8), "red"),
        "target": Image.new("RGB", (8, 8), "lime"),
        "instruction": "make it green",
        "expressive_instruction": "the red picture becomes green",
    }
    return EditExample(**row | changes)  # type: ignore[arg-type]


def _share(sheet: Image.Image, color: tuple[int, int, int]) -> float:
    """Pixels of a colour, in tiles."""
    return float((np.asarray(sheet) == color).all(axis=-1).sum()) / TILE_SIDE**2


def test_every_picture_is_on_the_sheet_enlarged() -> None:
    sheet = contact_sheet(_Rows([_row(number) for number in range(5)]), count=4, columns=2)
    assert sheet.mode == "RGB"
    assert _share(sheet, (255, 0, 0)) == pytest.approx(4)
    assert _share(sheet, (0, 255, 0)) == pytest.approx(4)


def test_words_are_written_below() -> None:
    with_words = contact_sheet(_Rows([_row()]), count=1)
    assert with_words.height > TILE_SIDE + 3 * 14
    below = np.asarray(with_words)[TILE_SIDE + 10 :]
    assert (below < 128).any()
    other = contact_sheet(_Rows([_row(instruction="make it lime")]), count=1)
    assert with_words.tobytes() != other.tobytes()


def test_mask_is_a_third_picture() -> None:
    mask = Image.new("L", (8, 8), 0)
    plain, masked = (contact_sheet(_Rows([_row(mask=value)]), count=1) for value in (None, mask))
    assert masked.width > plain.width + TILE_SIDE
    assert _share(masked, (0, 0, 0)) >= 1


def test_rows_without_target_or_expressive_instruction() -> None:
    sheet = contact_sheet(_Rows([_row(target=None, expressive_instruction=None)]), count=3)
    assert _share(sheet, (255, 0, 0)) == pytest.approx(1)
    assert _share(sheet, (0, 255, 0)) == 0


def test_long_words_stay_on_the_sheet() -> None:
    long = _row(instruction="make it much " * 60)
    sheet = contact_sheet(_Rows([long, _row(1)]), count=2, columns=2)
    gutter = np.asarray(sheet)[TILE_SIDE + 10 :, sheet.width // 2 - 4 : sheet.width // 2]
    assert (gutter == 255).all()


def test_big_and_oblong_pictures_fit_their_tile() -> None:
    wide = Image.new("RGB", (600, 150), "red")
    sheet = contact_sheet(_Rows([_row(source=wide)]), count=1)
    assert _share(sheet, (255, 0, 0)) == pytest.approx(0.25)


@pytest.mark.parametrize(("count", "columns", "name"), [(0, 3, "count"), (3, 0, "columns")])
def test_numbers_below_one(count: int, columns: int, name: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: expected at least 1, got 0"):
        contact_sheet(_Rows([_row()]), count=count, columns=columns)


def test_preview_is_written_where_asked(tmp_path: Path) -> None:
    path = write_preview(_Rows([_row()]), tmp_path / "new" / "sheet.png", count=1)
    assert _share(Image.open(path), (255, 0, 0)) == pytest.approx(1)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "sheet.png"
    path.write_text("mine")
    with pytest.raises(ConfigError, match=r"sheet\.png: exists already .*give another path, or delete it first"):
        write_preview(_Rows([_row()]), path, count=1)
    assert path.read_text() == "mine"


def test_unknown_suffix(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"expected the suffix of an image format, got '\.xyz'; use \.png"):
        write_preview(_Rows([_row()]), tmp_path / "sheet.xyz", count=1)
