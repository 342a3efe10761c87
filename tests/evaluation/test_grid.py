from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageFont

from mgie_lit.evaluation.grid import CELL, FONT_SIZE, MARGIN, MAX_LINES, GridRow, comparison_grid, picture_row, wrap

FONT = ImageFont.load_default(FONT_SIZE)


def row(size: tuple[int, int] = (8, 8), words: str = "make it brighter", written: str = "") -> GridRow:
    red, green, blue = (Image.new("RGB", size, color) for color in ("red", "lime", "blue"))
    return GridRow(red, green, blue, words, written)


def test_columns_are_source_edited_target() -> None:
    grid = comparison_grid([row()])
    assert grid.mode == "RGB"
    assert grid.width == 3 * CELL + 4 * MARGIN
    centres = [MARGIN + CELL // 2 + index * (CELL + MARGIN) for index in range(3)]
    colors = [grid.getpixel((x, CELL // 2 + 30)) for x in centres]
    assert colors == [(255, 0, 0), (0, 255, 0), (0, 0, 255)]


def test_captions_are_drawn_below_and_take_room() -> None:
    silent, short = comparison_grid([row(words="")]), comparison_grid([row()])
    both = comparison_grid([row(written="the whole image gets brighter")])
    assert both.height > short.height

    def ink(grid: Image.Image) -> int:
        return int((np.asarray(grid)[CELL + 40 :] < 128).all(-1).sum())

    assert ink(silent) == 0
    assert ink(short) > 50
    assert ink(both) > ink(short) + 50


def test_rows_stack_and_keep_the_aspect_ratio() -> None:
    wide = comparison_grid([row((400, 100))])
    assert comparison_grid([row((400, 100)), row((400, 100))]).height - wide.height > 0.8 * CELL / 4
    assert wide.height < comparison_grid([row((100, 400))]).height
    assert comparison_grid([row((1000, 1))]).width == wide.width


def test_missing_edit_and_target_are_named() -> None:
    full = row()
    grid = comparison_grid([GridRow(full.source, None, None, "do")])
    cell = np.asarray(grid)[30:60, CELL + 2 * MARGIN : 2 * CELL]
    assert (cell < 128).any()


def test_wrap_keeps_all_words_within_the_width() -> None:
    text = "remove the little red boat and let the water close over it"
    lines = wrap(text, FONT, 180)
    assert " ".join(lines) == text
    assert 1 < len(lines) <= MAX_LINES
    assert all(FONT.getlength(line) <= 180 for line in lines)


def test_wrap_breaks_long_words_and_cuts_long_texts() -> None:
    lines = wrap("a" * 500, FONT, 100)
    assert len(lines) == MAX_LINES
    assert lines[-1].endswith("...")
    assert all(FONT.getlength(line) <= 100 for line in lines)


def test_no_rows_is_an_error() -> None:
    with pytest.raises(ValueError, match="grid: expected at least one row, got none"):
        comparison_grid([])


def test_a_row_of_pictures_has_each_below_its_title() -> None:
    red, wide = Image.new("RGB", (2, 2), "red"), Image.new("L", (300, 100), 128)
    drawn = picture_row({"red": red, "wide": wide}, side=50)
    assert (drawn.mode, drawn.width) == ("RGB", 2 * 50 + 3 * MARGIN)
    top = drawn.height - MARGIN - 50
    pixels = np.asarray(drawn)
    assert (pixels[top : top + 50, MARGIN : MARGIN + 50] == (255, 0, 0)).all(), "enlarged without smoothing"
    left = 2 * MARGIN + 50
    assert (pixels[top : top + 17, left : left + 50] == 128).all()
    assert (pixels[top + 17 :, left:] == 255).all(), "the shape is kept"
    assert (pixels[:top] < 128).any()


def test_long_titles_of_a_row_take_more_room() -> None:
    square = Image.new("RGB", (4, 4))
    short, long = (picture_row({"a": square, title: square}, side=60) for title in ("b", "a title of several words"))
    assert long.height > short.height


def test_no_pictures_is_an_error() -> None:
    with pytest.raises(ValueError, match="pictures: expected at least one, got none"):
        picture_row({})
