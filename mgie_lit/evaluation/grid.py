"""Edits to look at: a picture with source, edited image and target side by side, and the words below."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

CELL = 224  # pixels, side of the square that each image is fitted into
MARGIN = 8  # pixels between cells and lines
FONT_SIZE = 14  # pixels
MAX_LINES = 3  # of one text; the rest is cut
GRID_ROWS = 8  # in the picture of an evaluation
COLUMNS = ("source", "edited", "target")
_INK, _SOFT_INK, _PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
_LINE = FONT_SIZE + 5


@dataclass(frozen=True, slots=True)
class GridRow:
    """One example of a grid."""

    source: Image.Image  # RGB
    edited: Image.Image | None  # RGB
    target: Image.Image | None  # RGB
    instruction: str
    expressive_instruction: str = ""  # what the system wrote; "" where it writes none


def comparison_grid(rows: Sequence[GridRow]) -> Image.Image:
    """Columns source, edited, target, a row an example, with instruction and expressive instruction as captions.

    Args:
        rows: At least one; small images are enlarged, large ones reduced, to fit 224 pixels.

    Returns:
        An RGB image 704 pixels wide.

    Raises:
        ValueError: There are no rows.
    """
    if not rows:
        raise ValueError("grid: expected at least one row, got none; edit at least one example")
    font = ImageFont.load_default(FONT_SIZE)
    width = len(COLUMNS) * (CELL + MARGIN) + MARGIN
    drawn = [_draw_row(row, width, font) for row in rows]
    grid = Image.new("RGB", (width, _LINE + MARGIN + sum(image.height for image in drawn)), _PAPER)
    pen = ImageDraw.Draw(grid)
    for index, title in enumerate(COLUMNS):
        pen.text((MARGIN + index * (CELL + MARGIN), MARGIN // 2), title, fill=_SOFT_INK, font=font)
    top = _LINE + MARGIN
    for image in drawn:
        grid.paste(image, (0, top))
        top += image.height
    return grid


def picture_row(pictures: Mapping[str, Image.Image], *, side: int = CELL) -> Image.Image:
    """Pictures side by side, each below its title.

    Args:
        pictures: Title -> picture of any mode, at least one; titles longer than a picture are broken into lines.
        side: Pixels of the longer side of each; small pictures are enlarged pixel by pixel, so that latents and
            64 pixel images show what they are.

    Returns:
        An RGB image.

    Raises:
        ValueError: There are no pictures.
    """
    if not pictures:
        raise ValueError("pictures: expected at least one, got none; give title -> picture")
    font = ImageFont.load_default(FONT_SIZE)
    titles = [wrap(title, font, side) for title in pictures]
    tiles = [_scaled(picture, side) for picture in pictures.values()]
    top = max(map(len, titles)) * _LINE + MARGIN
    width = len(tiles) * (side + MARGIN) + MARGIN
    row = Image.new("RGB", (width, top + max(tile.height for tile in tiles) + MARGIN), _PAPER)
    pen = ImageDraw.Draw(row)
    for index, (lines, tile) in enumerate(zip(titles, tiles, strict=True)):
        left = MARGIN + index * (side + MARGIN)
        for number, line in enumerate(lines):
            pen.text((left, MARGIN // 2 + number * _LINE), line, fill=_INK, font=font)
        row.paste(tile, (left, top))
    return row


def spread(length: int, count: int) -> list[int]:
    """Up to ``count`` indices below ``length``, in order: always the same draw, without a period of its own.

    Neighbours in a data set are often alike, and so are every tenth ones where ten edits take turns.

    >>> spread(400, 4), spread(2, 3)
    ([20, 197, 215, 388], [0, 1])
    """
    return sorted(random.Random(0).sample(range(length), min(length, count)))


def wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    """Break a text into lines of at most ``width`` pixels; words longer than a line are broken too.

    At most :data:`MAX_LINES` lines; what does not fit ends in an ellipsis.
    """
    lines = [""]
    for word in text.split():
        for piece in _pieces(word, font, width):
            joined = f"{lines[-1]} {piece}".strip()
            if font.getlength(joined) <= width:
                lines[-1] = joined
            else:
                lines.append(piece)
    if len(lines) > MAX_LINES:
        last = lines[MAX_LINES - 1]
        while last and font.getlength(f"{last}...") > width:
            last = last[:-1]
        lines = [*lines[: MAX_LINES - 1], f"{last}..."]
    return lines


def _pieces(word: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    pieces = [""]
    for letter in word:
        if pieces[-1] and font.getlength(pieces[-1] + letter) > width:
            pieces.append("")
        pieces[-1] += letter
    return pieces


def _draw_row(row: GridRow, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> Image.Image:
    text_width = width - 2 * MARGIN
    captions = [(line, _INK) for line in wrap(row.instruction, font, text_width)]
    if row.expressive_instruction:
        captions += [(line, _SOFT_INK) for line in wrap(f"-> {row.expressive_instruction}", font, text_width)]
    images = [image and _fit(image) for image in (row.source, row.edited, row.target)]
    height = max(image.height for image in images if image)
    drawn = Image.new("RGB", (width, height + MARGIN // 2 + len(captions) * _LINE + 2 * MARGIN), _PAPER)
    pen = ImageDraw.Draw(drawn)
    for index, image in enumerate(images):
        left = MARGIN + index * (CELL + MARGIN)
        if image:
            drawn.paste(image, (left, 0))
        else:
            pen.text((left, 0), "(none)", fill=_SOFT_INK, font=font)
    for index, (line, ink) in enumerate(captions):
        pen.text((MARGIN, height + MARGIN // 2 + index * _LINE), line, fill=ink, font=font)
    return drawn


def _fit(image: Image.Image) -> Image.Image:
    return image.resize(_size_within(image, CELL), Image.Resampling.BICUBIC)


def _scaled(image: Image.Image, side: int) -> Image.Image:
    how = Image.Resampling.NEAREST if max(image.size) < side else Image.Resampling.BICUBIC
    return image.convert("RGB").resize(_size_within(image, side), how)


def _size_within(image: Image.Image, side: int) -> tuple[int, int]:
    """Width and height whose longer one is ``side``."""
    scale = side / max(image.size)
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
