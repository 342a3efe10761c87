"""Square crops of the photographs, cut once a process and shared by all data sets of the same kind."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from mgie_lit.data.image_files import open_image
from mgie_lit.data.photo_edits.draws import SPLITS
from mgie_lit.data.photo_edits.operations import exposure
from mgie_lit.data.photo_edits.photographs import Photograph, photographs
from mgie_lit.data.photo_edits.pixels import to_float
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from mgie_lit.data.photo_edits.pixels import ByteImage

TRAIN_CROPS = 3000
EVAL_CROPS_EACH = 64  # a photograph of the validation or test split
MIN_SIDE = 96  # pixels of the photograph; smaller crops show too little
MIN_STD = 12.0  # of the 8-bit values of the most varied channel; flatter crops (sky, borders) are dropped
MAX_POOL_BYTES = 256 * 2**20
_DRAFT_SIDE = 1536  # JPEGs larger than twice this are decoded at a reduced scale
_TRIES = 6  # draws for each crop wanted, before a photograph counts as flat


@dataclass(frozen=True, slots=True)
class CropPool:
    """Crops of one split at one resolution."""

    pixels: NDArray[np.uint8]  # (N, R, R, 3) RGB
    owner: NDArray[np.intp]  # (N,) position in ``names``
    names: tuple[str, ...]  # photographs that gave at least one crop
    members: tuple[NDArray[np.intp], ...]  # per photograph: its crops
    well_exposed: tuple[NDArray[np.intp], ...]  # per photograph: those neither dark nor bright; may be empty

    def __len__(self) -> int:
        """Number of crops."""
        return len(self.pixels)

    def name(self, crop: int) -> str:
        """Photograph of a crop."""
        return self.names[int(self.owner[crop])]


@functools.lru_cache(maxsize=8)
def crop_pool(split: str, resolution: int, root: str | None = None) -> CropPool:
    """The crops of a split; made at the first call (seconds), then kept.

    Training draws 3000 crops by the photographs' weights; validation and test take 64 of each photograph. Sides are
    log-uniform from 96 pixels (or ``resolution`` where larger) to the photograph's shorter side. Which crops are cut
    depends on split, resolution and photographs alone, never on a data set's seed: runs are tested on the same ones.

    Args:
        split: ``train``, ``val`` or ``test``.
        resolution: Side of the crops in pixels.
        root: Folder of the user's photographs; None takes the bundled ones.

    Returns:
        The crops, shared and read-only; at least one.

    Raises:
        DataError: A photograph can not be read, or none has enough contrast.
    """
    chosen = photographs(split, root)
    budget = max(1, MAX_POOL_BYTES // (3 * resolution**2))
    counts = _counts(chosen, budget, by_weight=split == "train")
    pixels: list[ByteImage] = []
    names: list[str] = []
    owner: list[int] = []
    for number, (photograph, count) in enumerate(zip(chosen, counts, strict=True)):
        rng = np.random.default_rng([SPLITS.index(split), number])
        crops = _cut(photograph, count, resolution, rng) if count else []
        if crops:
            owner += [len(names)] * len(crops)
            names.append(photograph.name)
            pixels += crops
    if not pixels:
        raise DataError(
            f"{split} photographs: expected at least one crop with some contrast, got none from {len(chosen)} "
            f"photograph(s) such as {chosen[0].path}; use photographs that are not one flat colour"
        )
    return _pool(np.stack(pixels), np.array(owner, dtype=np.intp), tuple(names))


def _pool(pixels: NDArray[np.uint8], owner: NDArray[np.intp], names: tuple[str, ...]) -> CropPool:
    fine = np.array([exposure(to_float(crop)) == "fine" for crop in pixels])
    members = tuple(np.flatnonzero(owner == number) for number in range(len(names)))
    well_exposed = tuple(crops[fine[crops]] for crops in members)
    pixels.flags.writeable = False  # shared by every data set of the process
    return CropPool(pixels, owner, names, members, well_exposed)


def _counts(chosen: tuple[Photograph, ...], budget: int, *, by_weight: bool) -> list[int]:
    """How many crops each photograph gives, at most ``budget`` in all; leftovers go to the first ones."""
    if not by_weight:
        each = min(EVAL_CROPS_EACH, max(1, budget // len(chosen)))
        return [each if number * each < budget else 0 for number in range(len(chosen))]
    total = min(budget, max(TRAIN_CROPS, len(chosen)))
    cumulative = np.cumsum([photograph.weight for photograph in chosen])
    ends = np.rint(cumulative / cumulative[-1] * total).astype(int)
    return [int(count) for count in np.diff(ends, prepend=0)]


def _cut(photograph: Photograph, count: int, resolution: int, rng: np.random.Generator) -> list[ByteImage]:
    """Up to ``count`` random square crops of a photograph, without the flat ones."""
    image = open_image(photograph.path, draft_size=_DRAFT_SIDE)
    longest = min(image.size)
    shortest = min(longest, max(MIN_SIDE, resolution))
    crops: list[ByteImage] = []
    for _ in range(_TRIES * count):
        u_side, u_left, u_top = rng.random(3).tolist()
        side = math.exp(math.log(shortest) + u_side * math.log(longest / shortest))
        left, top = u_left * (image.width - side), u_top * (image.height - side)
        box = (left, top, left + side, top + side)
        crop = np.asarray(image.resize((resolution, resolution), Image.Resampling.BICUBIC, box=box, reducing_gap=2.0))
        if crop[::2, ::2].std(axis=(0, 1)).max() >= MIN_STD:  # every fourth pixel tells enough
            crops.append(crop)
        if len(crops) == count:
            break
    return crops
