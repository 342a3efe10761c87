"""The embedded data set: procedural edits of photographs and drawn scenes, made on the fly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image
from torch.utils.data import Dataset

from mgie_lit.data.photo_edits.crops import CropPool, crop_pool
from mgie_lit.data.photo_edits.draws import SPLITS, example_rng
from mgie_lit.data.photo_edits.families import FAMILIES
from mgie_lit.data.photo_edits.pairs import PairRequest
from mgie_lit.data.photo_edits.plan import EditMix, Task
from mgie_lit.data.photo_edits.wordings import requests
from mgie_lit.errors import ConfigError
from mgie_lit.types import EditExample

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import numpy as np

DEFAULT_FAMILIES = {"global": 1.0}
MIN_RESOLUTION = 16  # pixels; smaller pictures show no shapes
MAX_SEED = 2**63 - 1


class PhotoEdits(Dataset[EditExample]):
    """Pairs of a photograph (or drawn scene) and its edit, with a request and an expressive instruction.

    An example depends on seed, split and index alone. Training draws photograph, edit and wording; validation and test
    go through edits, photographs and wordings in a balanced order, a fifth of them in wordings never trained on. No
    photograph is in two splits.

    ``attributes`` hold ``family``, ``operation``, ``meaning`` (what ``parse_expressive`` must read in the expressive
    instruction; the operation itself for global edits), ``wording`` (``seen`` or ``new``) and ``photograph``.

    Args:
        split: ``train``, ``val`` or ``test``.
        num_examples: Length; the first examples of a longer set are the same.
        resolution: Side of the square pictures in pixels, at least 16.
        seed: Of the data, at least 0.
        root: Folder of photographs to use instead of the bundled ones.
        families: Weight of each family of edits: ``global``, ``detail``, ``tone``, ``scene``, ``ambiguous_scene``;
            None means global edits only.
        operations: Use only these operations; None uses all of the families with a weight.

    Raises:
        ConfigError: A value is out of range or a name is unknown.
        DataError: The folder can not fill every split, or a photograph can not be read.
    """

    def __init__(
        self,
        split: str,
        num_examples: int,
        resolution: int,
        *,
        seed: int = 0,
        root: str | None = None,
        families: Mapping[str, float] | None = None,
        operations: Iterable[str] | None = None,
    ) -> None:
        _check(split, num_examples, resolution, seed)
        self.split = split
        self.num_examples = num_examples
        self.resolution = resolution
        self.seed = seed
        self._root = None if root is None else str(root)
        self._mix = EditMix.create(DEFAULT_FAMILIES if families is None else families, operations)
        self._schedule: list[Task] = []
        if split != "train":
            self._schedule = self._mix.schedule(num_examples, len(self._pool.names))

    @property
    def _pool(self) -> CropPool:
        """Crops of the split; shared by all data sets of the process and not part of a pickled one."""
        return crop_pool(self.split, self.resolution, self._root)

    def __len__(self) -> int:
        """Number of examples."""
        return self.num_examples

    def sample_id(self, index: int) -> str:
        """Id of the example at ``index``: ``<split>-<index>``."""
        return f"{self.split}-{index:06d}"

    def __getitem__(self, index: int) -> EditExample:
        """Make the example at ``index``.

        Args:
            index: In ``[0, len)``; negative ones are not counted from the end.

        Returns:
            RGB pictures of ``resolution`` squared; the mask (L, 255 = changed) is None where all may change.

        Raises:
            IndexError: ``index`` is outside ``[0, len)``.
        """
        if not 0 <= index < self.num_examples:
            raise IndexError(f"index: expected 0 to {self.num_examples - 1}, got {index}")
        rng = example_rng(self.seed, self.split, index)
        task = self._mix.draw(rng) if self.split == "train" else self._schedule[index]
        family = FAMILIES[task.family]
        pair = family.make(PairRequest(task.operation, self._pool, rng, task.turn, self.seed))
        templates = requests(task.operation, task.wording)
        return EditExample(
            sample_id=self.sample_id(index),
            source=_to_pil(pair.source),
            target=_to_pil(pair.target),
            instruction=templates[int(rng.random() * len(templates))].format(**pair.slots),
            expressive_instruction=pair.expressive,
            mask=None if pair.mask is None else _to_pil(pair.mask),
            session_id=f"scene-{index:06d}" if family.drawn else pair.photograph,
            attributes={
                "family": task.family,
                "operation": task.operation,
                "meaning": pair.meaning,
                "wording": task.wording,
                "photograph": pair.photograph,
            },
        )


def _to_pil(pixels: np.ndarray) -> Image.Image:
    """``(R, R, 3)`` uint8 to RGB, ``(R, R)`` uint8 to L."""
    return Image.fromarray(pixels)


def _check(split: str, num_examples: int | None, resolution: int, seed: int) -> None:
    if split not in SPLITS:
        raise ConfigError(f"split: expected one of {', '.join(SPLITS)}, got {split!r}; use one of these")
    if num_examples is None or num_examples < 1:
        raise ConfigError(
            f"data.num_examples.{split}: expected at least 1 example, got {num_examples}; "
            "pairs are made on the fly, so say how many"
        )
    if resolution < MIN_RESOLUTION:
        raise ConfigError(f"size.resolution: expected at least {MIN_RESOLUTION} pixels, got {resolution}; raise it")
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"data.reader.seed: expected an integer from 0 to {MAX_SEED}, got {seed}; change it")
