"""Which changes of a photograph `mgie prepare check` takes for none: ``python benchmarks/unedited.py``.

Nine photographs of scikit-image and scikit-learn, two square crops of each, at several sizes. Compressed copies should
all be `unedited`, edits never.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator

import numpy as np
import skimage.data
from PIL import Image
from sklearn.datasets import load_sample_images

from mgie_lit.prepare.check.examine import Limits
from mgie_lit.prepare.check.fingerprints import cells, is_compression, largest_difference

NAMES = ("astronaut", "chelsea", "coffee", "rocket", "hubble_deep_field", "retina", "immunohistochemistry")
SIZES = (64, 96, 128, 200, 256, 384, 512)  # pixels
PATCH = 16  # pixels
LIMITS = Limits()

Picture = Image.Image


def saved(image: Picture, quality: int = 90, kind: str = "JPEG") -> Picture:
    """The picture after it was saved and opened."""
    file = io.BytesIO()
    image.save(file, kind, quality=quality)
    return Image.open(file).convert("RGB")


def brighter(image: Picture) -> Picture:
    """By 4 %."""
    return image.point(lambda value: min(round(1.04 * value), 255))


def patched(image: Picture) -> Picture:
    """A square in the middle is 20 of 255 brighter, or darker where it is bright."""
    pixels = np.asarray(image, np.int16).copy()
    first = (image.width - PATCH) // 2
    square = pixels[first : first + PATCH, first : first + PATCH]
    square += 20 if square.mean() < 128 else -20
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


PAIRS: dict[str, Callable[[Picture], tuple[Picture, Picture]]] = {
    "JPEG 90": lambda image: (image, saved(image)),
    "source of JPEG 90": lambda image: (saved(image), image),
    "JPEG 85, JPEG 90": lambda image: (saved(image, 85), saved(image)),
    "JPEG 80": lambda image: (image, saved(image, 80)),
    "WebP 90": lambda image: (image, saved(image, kind="WEBP")),
    "brightness +4 %": lambda image: (image, brighter(image)),
    "brightness +4 %, JPEG 90": lambda image: (image, saved(brighter(image))),
    "16 px square by 20": lambda image: (image, patched(image)),
    "16 px square by 20, JPEG 90": lambda image: (image, saved(patched(image))),
}


def crops(side: int) -> Iterator[Picture]:
    """Two of every photograph."""
    whole = [getattr(skimage.data, name)() for name in NAMES] + load_sample_images().images
    for image in map(Image.fromarray, whole):
        (width, height), square = image.size, min(image.size)
        for box in ((0, 0, square, square), (width - square // 2, height - square // 2, width, height)):
            yield image.crop(box).resize((side, side), Image.Resampling.BICUBIC)


def is_unedited(first: Picture, second: Picture) -> bool:
    """As the command judges it."""
    least = LIMITS.unedited_difference
    return largest_difference(cells(first), cells(second)) <= least or is_compression(
        first, second, quality=LIMITS.unedited_quality, least=least
    )


def main() -> None:
    """Print how many of 18 pairs are unedited, and what the comparison costs."""
    print(f"{'':28}", *(f"{side:4}" for side in SIZES))
    for name, pair in PAIRS.items():
        print(f"{name:28}", *(f"{sum(is_unedited(*pair(image)) for image in crops(side)):4}" for side in SIZES))
    images = list(crops(SIZES[-1]))
    begin = time.process_time()
    for image in images:
        is_compression(image, image, quality=LIMITS.unedited_quality, least=LIMITS.unedited_difference)
    print(f"{1000 * (time.process_time() - begin) / len(images):.1f} ms CPU a pair of {SIZES[-1]} px")


if __name__ == "__main__":
    main()
