"""What can be said about one example on its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mgie_lit.data.readers.base import FileReader
from mgie_lit.data.readers.expressive import COLUMN
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.check.findings import Finding
from mgie_lit.prepare.check.fingerprints import (
    PRINT,
    cells,
    is_compression,
    largest_difference,
    look,
    pixel_hash,
    words_hash,
)
from mgie_lit.prepare.check.texts import MAX_LENGTH, absurdity

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.types import EditExample

MAX_QUALITY = 100  # of JPEG
TRAINING_SPLITS = ("train", "val")  # their examples need a target


@dataclass(frozen=True, slots=True)
class Limits:
    """From where on something is a finding.

    Raises:
        ConfigError: A number is out of range.
    """

    aspect_tolerance: float = 0.02  # relative difference of width/height between source and target
    unedited_difference: float = 2.0  # of 255: largest difference of any of 64 x 64 cells
    unedited_quality: int = 75  # of JPEG: what differs no more than saving with it, unless no difference is allowed
    max_text_length: int = MAX_LENGTH  # characters

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 1 <= self.unedited_quality <= MAX_QUALITY:
            raise ConfigError(
                f"check.unedited_quality: expected a JPEG quality of 1 to {MAX_QUALITY}, got "
                f"{self.unedited_quality}; change it"
            )
        for name, least in (("aspect_tolerance", 0), ("unedited_difference", 0), ("max_text_length", 1)):
            if not getattr(self, name) >= least:
                raise ConfigError(f"check.{name}: expected a number >= {least}, got {getattr(self, name)}; raise it")


@dataclass(slots=True)
class Examined:
    """Some examples of a split, in order."""

    sample_ids: list[str] = field(default_factory=list)
    has_expressive: list[bool] = field(default_factory=list)
    prints: np.ndarray = field(default_factory=lambda: np.zeros(0, PRINT))
    findings: list[Finding] = field(default_factory=list)


def examine(dataset: EditDataset, split: str, positions: range, limits: Limits) -> Examined:
    """Open examples and look at each on its own.

    Args:
        dataset: Of one split.
        split: Its name.
        positions: Of the examples.
        limits: From where on something is a finding.

    Returns:
        Ids, prints (zero for examples that do not open) and findings.
    """
    seen = Examined(prints=np.zeros(len(positions), PRINT))
    for row, position in enumerate(positions):
        sample_id = dataset.sample_id(position)
        seen.sample_ids.append(sample_id)
        try:
            example = dataset[position]
        except DataError as error:
            seen.findings.append(_unopened(dataset, position, sample_id, split, str(error)))
            seen.has_expressive.append(True)  # one finding is enough
            if isinstance(dataset, FileReader):  # its words can be judged all the same
                seen.findings += _words_findings(sample_id, split, *dataset.texts(position), limits)
            continue
        seen.has_expressive.append(example.expressive_instruction is not None)
        texts = (example.instruction, example.expressive_instruction)
        seen.findings += _words_findings(sample_id, split, *texts, limits)
        seen.findings += _image_findings(example, split, limits, seen.prints[row : row + 1])
    return seen


def text_findings(sample_id: str, split: str, text: str, key: str, limits: Limits) -> list[Finding]:
    """What is wrong with a text of an example, if anything.

    Args:
        sample_id: Of the example.
        split: Of the example.
        text: To be judged.
        key: What it is, for the message.
        limits: From where on it is too long.

    Returns:
        One finding, or none.
    """
    fault = absurdity(text, max_length=limits.max_text_length)
    return [] if fault is None else [Finding(sample_id, split, "absurd_text", f"{key}: {fault}")]


def _words_findings(
    sample_id: str, split: str, instruction: str, expressive: str | None, limits: Limits
) -> list[Finding]:
    found = text_findings(sample_id, split, instruction, "instruction", limits)
    return found if expressive is None else found + text_findings(sample_id, split, expressive, COLUMN, limits)


def _image_findings(example: EditExample, split: str, limits: Limits, row: np.ndarray) -> Iterator[Finding]:
    """Findings about the images; their prints go into ``row``."""
    source_cells = cells(example.source)
    row["source"], row["source_look"] = pixel_hash(example.source), look(source_cells)
    row["words"] = words_hash(example.instruction)
    if example.target is None:
        if split in TRAINING_SPLITS:
            yield Finding(example.sample_id, split, "no_target", "there is no target image to learn from")
        return
    target_cells = cells(example.target)
    row["target"], row["target_look"] = pixel_hash(example.target), look(target_cells)
    yield from _size_findings(example.sample_id, split, example.source, example.target, limits)
    difference = largest_difference(source_cells, target_cells)
    least, quality = limits.unedited_difference, limits.unedited_quality
    if row["source"] == row["target"]:
        yield Finding(example.sample_id, split, "unedited", "the target has the same pixels")
    elif difference <= least:
        yield Finding(example.sample_id, split, "unedited", f"the target differs by {difference} of 255 at most")
    elif least > 0 and is_compression(example.source, example.target, quality=quality, least=least):
        yield Finding(example.sample_id, split, "unedited", "the target differs as if it were compressed again")


def _size_findings(
    sample_id: str, split: str, source: Image.Image, target: Image.Image, limits: Limits
) -> Iterator[Finding]:
    if source.size == target.size:
        return
    sizes = f"source {source.width} x {source.height}, target {target.width} x {target.height}"
    # A shape is only known to half a pixel: small pictures of the same shape may differ by more than the tolerance.
    rounding = 0.5 / min(*source.size, *target.size)
    ratio = (source.width / source.height) / (target.width / target.height)
    is_other_shape = abs(np.log(ratio)) > limits.aspect_tolerance + rounding
    yield Finding(sample_id, split, "different_shape" if is_other_shape else "different_size", sizes)


def _unopened(dataset: EditDataset, position: int, sample_id: str, split: str, message: str) -> Finding:
    path = next((path for path in _image_paths(dataset, position) if f"{path}:" in message), None)
    kind = "empty_file" if "0 bytes" in message else "unreadable"
    if path is not None and not path.exists():
        kind = "missing_file"
    return Finding(sample_id, split, kind, message, "" if path is None else str(path))


def _image_paths(dataset: EditDataset, position: int) -> list[Path]:
    """Files of an example's images, where they lie in files of their own."""
    if not isinstance(dataset, FileReader):
        return []
    row = dataset.row(position)
    return [dataset.image_dir / name for name in (row.source, row.target, row.mask) if name]
