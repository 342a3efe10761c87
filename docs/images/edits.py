"""The picture of the README: ``python docs/images/edits.py`` edits the four test photographs with `tiny`, seed 0."""

from __future__ import annotations

from pathlib import Path

import torch
from PIL import Image, ImageDraw, ImageFont, ImageOps

from mgie_lit import MGIEPipeline
from mgie_lit.data.photo_edits.photographs import photographs

OUTPUT = Path(__file__).with_name("edits.webp")
INSTRUCTIONS = {
    "rocket": "make it brighter",
    "coffee": "cool it down",
    "flower": "turn it into a negative",
    "grace_hopper": "make it black and white please",
}
SEED = 0
TILE, GAP, MARGIN = (300, 225), 6, 24  # px
CAPTION = 80  # px, two lines below each pair
FONT_SIZE = 24  # px
INK, SOFT_INK, PAPER = (20, 20, 20), (90, 90, 90), (255, 255, 255)
QUALITY = 88  # of WebP


def main() -> None:
    """Edit, lay out, write."""
    pipe = MGIEPipeline.from_pretrained("tiny")
    pipe.set_progress_bar_config(disable=True)
    pairs = []
    for photo in photographs("test"):
        source = Image.open(photo.path).convert("RGB")
        generator = torch.Generator().manual_seed(SEED)
        out = pipe(source, INSTRUCTIONS[photo.name], generator=generator)
        pairs.append(_drawn(source, out.images[0], INSTRUCTIONS[photo.name], out.expressive_instructions[0]))
    width, height = pairs[0].size
    sheet = Image.new("RGB", (2 * width + 3 * MARGIN, 2 * height + 2 * MARGIN), PAPER)
    for index, pair in enumerate(pairs):
        row, column = divmod(index, 2)
        sheet.paste(pair, (MARGIN + column * (width + MARGIN), MARGIN + row * height))
    sheet.save(OUTPUT, quality=QUALITY, method=6)
    print(OUTPUT, f"{sheet.width}x{sheet.height}", f"{OUTPUT.stat().st_size / 1000:.0f} kB")


def _drawn(source: Image.Image, edited: Image.Image, instruction: str, expressive: str) -> Image.Image:
    """A photograph, its edit, and the words below: the human's, and what the model made of them."""
    font = ImageFont.load_default(FONT_SIZE)
    pair = Image.new("RGB", (2 * TILE[0] + GAP, TILE[1] + CAPTION), PAPER)
    for index, image in enumerate((source, edited)):
        tile = ImageOps.fit(image, TILE, Image.Resampling.BICUBIC, centering=(0.5, 0.3))
        pair.paste(tile, (index * (TILE[0] + GAP), 0))
    pen = ImageDraw.Draw(pair)
    pen.text((2, TILE[1] + 6), f"“{instruction}”", fill=INK, font=font)
    pen.text((2, TILE[1] + 6 + FONT_SIZE + 6), f"{expressive}", fill=SOFT_INK, font=font)
    return pair


if __name__ == "__main__":
    main()
