"""Contact sheet of a data set: what a model is shown and what it shall make of it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image, ImageDraw, ImageFont

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from mgie_lit.data.readers import EditDataset
    from mgie_lit.types import EditExample

TILE_SIDE = 144  # pixels of the longer side of each picture
FONT_SIZE = 14  # pixels
GAP = 8  # pixels between pictures and around cells
LINE_HEIGHT = 18  # pixels
PAPER, INK, QUIET_INK = "white", "black", "dimgray"


def contact_sheet(dataset: EditDataset, count: int, columns: int = 3) -> Image.Image:
    """Draw the first examples: source, target, mask where there is one, and their words.

    Args:
        dataset: Any reader.
        count: Number of examples; fewer where the data set is shorter.
        columns: Examples side by side.

    Returns:
        An RGB picture; small examples are enlarged without smoothing.

    Raises:
        ConfigError: ``count`` or ``columns`` is below 1.
    """
    for name, value in (("count", count), ("columns", columns)):
        if value < 1:
            raise ConfigError(f"{name}: expected at least 1, got {value}; raise it")
    examples = [dataset[index] for index in range(min(count, len(dataset)))]
    num_tiles = max((len(_pictures(example)) for example in examples), default=2)
    cell_width = num_tiles * (TILE_SIDE + GAP) + GAP
    captions = [_caption(example, cell_width - 2 * GAP) for example in examples]
    num_lines = max(map(len, captions), default=0)
    cell_height = TILE_SIDE + 3 * GAP + num_lines * LINE_HEIGHT
    columns = min(columns, max(1, len(examples)))
    rows = max(1, -(-len(examples) // columns))
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), PAPER)
    for position, (example, caption) in enumerate(zip(examples, captions, strict=True)):
        row, column = divmod(position, columns)
        _draw_cell(sheet, example, caption, left=column * cell_width + GAP, top=row * cell_height + GAP)
    return sheet


def write_preview(dataset: EditDataset, path: str | Path, count: int, columns: int = 3) -> Path:
    """Write the contact sheet of the first ``count`` examples; an existing file is never overwritten.

    Args:
        dataset: Any reader.
        path: Image file to write; its suffix gives the format. Missing folders are made.
        count: Number of examples.
        columns: Examples side by side.

    Returns:
        The path written.

    Raises:
        ConfigError: Something is at ``path`` already, or its suffix is no image format.
    """
    path = Path(path)
    if path.exists():
        raise ConfigError(f"{path}: exists already and is not overwritten; give another path, or delete it first")
    if path.suffix.lower() not in Image.registered_extensions():
        raise ConfigError(f"{path}: expected the suffix of an image format, got {path.suffix!r}; use .png")
    sheet = contact_sheet(dataset, count, columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)
    return path


def _pictures(example: EditExample) -> list[Image.Image]:
    return [picture for picture in (example.source, example.target, example.mask) if picture is not None]


def _caption(example: EditExample, width: int) -> list[tuple[str, str]]:
    """Lines below an example, with their ink: id, request, expressive instruction."""
    lines = [(f"{example.sample_id}  {example.attributes.get('wording', '')}".rstrip(), QUIET_INK)]
    lines += [(line, INK) for line in _wrap(f'"{example.instruction}"', width, num_lines=2)]
    if example.expressive_instruction:
        lines += [(line, QUIET_INK) for line in _wrap(f"-> {example.expressive_instruction}", width, num_lines=3)]
    return lines


def _draw_cell(
    sheet: Image.Image, example: EditExample, caption: list[tuple[str, str]], *, left: int, top: int
) -> None:
    """One example at its place: pictures in a row, words below."""
    for number, picture in enumerate(_pictures(example)):
        sheet.paste(_tile(picture), (left + number * (TILE_SIDE + GAP), top))
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(size=FONT_SIZE)
    for number, (line, ink) in enumerate(caption):
        draw.text((left, top + TILE_SIDE + GAP + number * LINE_HEIGHT), line, fill=ink, font=font)


def _tile(picture: Image.Image) -> Image.Image:
    """The picture at its place on a tile of paper; enlarged pixel by pixel, or shrunk smoothly."""
    scale = TILE_SIDE / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    how = Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BICUBIC
    tile = Image.new("RGB", (TILE_SIDE, TILE_SIDE), PAPER)
    tile.paste(picture.resize(size, how).convert("RGB"))
    return tile


def _wrap(text: str, width: int, num_lines: int) -> list[str]:
    """At most ``num_lines`` lines that fit ``width`` pixels; a longer text ends in dots."""
    num_letters = int(width / (0.52 * FONT_SIZE))  # the default font's mean letter width
    return textwrap.wrap(text, num_letters, max_lines=num_lines, placeholder=" ...")
