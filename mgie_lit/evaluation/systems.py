"""What can be evaluated: anything that turns examples into edited images."""

from __future__ import annotations

import logging
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from PIL import Image

from mgie_lit.data.image_files import open_image
from mgie_lit.errors import DataError
from mgie_lit.evaluation.layouts import check_choices, file_stem
from mgie_lit.functional.randomness import keyed_generator
from mgie_lit.sampling.edit import edit_images
from mgie_lit.types import EditedImage, EditExample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mgie_lit.editor import Editor
    from mgie_lit.sampling.edit import SamplingOptions

LOG = logging.getLogger(__name__)
PREDICTION_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_NAMES_SHOWN = 20


class EditSystem(Protocol):
    """Edits images by instruction."""

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> Sequence[EditedImage | None]:
        """Edit each example's source; the target is not to be looked at.

        Args:
            examples: A batch.
            seed: Of the noise; the same seed gives the same edits.

        Returns:
            One edit an example, in order; None where the system has none (a prediction that is not there).
        """
        ...


@runtime_checkable
class ChecksSamples(Protocol):
    """A system that can tell before the start whether it has what the data set asks for."""

    def check(self, sample_ids: Sequence[str]) -> None:
        """Raise :class:`~mgie_lit.errors.DataError` if some samples can not be edited."""
        ...


class EditorSystem:
    """An editor with its sampling options; the edit of a sample depends on weights, sample id and seed alone.

    Args:
        editor: In eval mode.
        options: Steps, scales, resolution and the way to full size.
    """

    def __init__(self, editor: Editor, options: SamplingOptions) -> None:
        self.editor = editor
        self.options = options

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage]:
        """Edit the sources in as few batches as their sizes allow."""
        return edit_images(
            self.editor,
            [example.source for example in examples],
            [self.editor.guide.words(example) for example in examples],  # type: ignore[operator]
            options=self.options,
            generators=[keyed_generator(seed, example.sample_id) for example in examples],
        )


class CopySystem:
    """Gives the source back: what any editor has to beat."""

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage]:
        """The sources.

        Args:
            examples: A batch.
            seed: Has no effect.

        Returns:
            One image an example, in order.
        """
        return [EditedImage(example.source) for example in examples]


class PredictionFolder:
    """Images that any system made before, one a sample (and seed), as png, jpg, jpeg or webp.

    Args:
        folder: Where they lie; see :func:`~mgie_lit.evaluation.layouts.file_stem` for their names.
        allow_missing: Score the samples that have a prediction and leave images without a sample aside. Two images
            for one sample, and images that can not be read, are errors all the same.
        layout: ``ids`` or ``magicbrush``.
        turns: ``given`` or ``chain``: which of MagicBrush's two kinds of edits is read.
        seeds: Seeds that the folder holds edits of; the first has no folder of its own.

    Raises:
        DataError: ``folder`` is not a folder.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        allow_missing: bool = False,
        layout: str = "ids",
        turns: str = "given",
        seeds: Sequence[int] = (0,),
    ) -> None:
        check_choices(layout, turns)
        self.folder = Path(folder)
        self.allow_missing = allow_missing
        self.layout = layout
        self.turns = turns
        self.seeds = tuple(seeds)
        if not self.folder.is_dir():
            raise DataError(
                f"predictions: expected a folder with one <sample_id>.png a sample, got {self.folder}, "
                "which is not a folder; check its spelling"
            )
        self._files: dict[str, list[Path]] = {}
        for path in self._scan():
            if path.suffix.lower() in PREDICTION_SUFFIXES and path.is_file():
                stem = path.relative_to(self.folder).with_suffix("").as_posix()
                self._files.setdefault(_composed(stem), []).append(path)

    def check(self, sample_ids: Sequence[str]) -> None:
        """Compare the files with the data set and make sure that each of them can be read.

        Args:
            sample_ids: All ids of the data set.

        Raises:
            ConfigError: The ids do not fit the layout.
            DataError: Predictions are missing, extra, ambiguous or unreadable; one message for all.
        """
        self._warn_about_other_seeds()
        stems = [self._stem(name, seed) for seed in self.seeds for name in sample_ids]
        wanted = set(stems)
        known = wanted | self._of_other_turns(sample_ids)
        matched = [path for name, paths in self._files.items() if name in wanted for path in paths]
        faults = {
            "missing": [] if self.allow_missing else [name for name in stems if name not in self._files],
            "extra": [] if self.allow_missing else [name for name in self._files if name not in known],
            "ambiguous": [
                f"{name} ({', '.join(path.name for path in paths)})"
                for name, paths in self._files.items()
                if name in wanted and len(paths) > 1
            ],
            "unreadable": _unreadable(matched),
        }
        if any(faults.values()) or not matched:
            found = "; ".join(_listing(kind, names) for kind, names in faults.items() if names) or "none match"
            raise DataError(
                f"predictions: expected one {self._pattern()}.png|jpg|jpeg|webp for each of {len(sample_ids)} samples "
                f"in {self.folder}, got: {found}; {self._remedy()}"
            )

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage | None]:
        """The predictions, decoded; None where there is none.

        Args:
            examples: Only their ids are read.
            seed: One of ``seeds``.

        Returns:
            One prediction an example, in order.

        Raises:
            DataError: A file can not be read.
        """
        paths = [self._files.get(self._stem(example.sample_id, seed)) for example in examples]
        return [EditedImage(open_image(found[0])) if found else None for found in paths]

    def _stem(self, sample_id: str, seed: int) -> str:
        own = None if seed == self.seeds[0] else seed
        return _composed(file_stem(sample_id, layout=self.layout, turns=self.turns, seed=own))

    def _scan(self) -> list[Path]:
        if self.layout == "magicbrush":
            return sorted(self.folder.glob("*/*"))
        inside = [self.folder / f"seed-{seed}" for seed in self.seeds[1:]]
        return sorted(path for folder in (self.folder, *inside) if folder.is_dir() for path in folder.iterdir())

    def _warn_about_other_seeds(self) -> None:
        others = {path.name for path in self.folder.glob("seed-*") if path.is_dir()}
        others -= {f"seed-{seed}" for seed in self.seeds[1:]}
        if others and self.layout == "ids":
            LOG.warning(
                "predictions: %s also holds %s, which is not scored; num_seeds=<n> asks for more than the first",
                self.folder,
                ", ".join(sorted(others)),
            )

    def _of_other_turns(self, sample_ids: Sequence[str]) -> set[str]:
        """MagicBrush's folders hold both kinds of edits; the kind that is not scored is not too much."""
        if self.layout != "magicbrush":
            return set()
        kinds = ("given", "chain")
        stems = (file_stem(name, layout=self.layout, turns=kind, seed=None) for name in sample_ids for kind in kinds)
        return set(map(_composed, stems))

    def _pattern(self) -> str:
        return "<sample_id>" if self.layout == "ids" else "<session>/<session>_1, _inde_<turn>, _iter_<turn>"

    def _remedy(self) -> str:
        inside = self.folder / "images"
        if not self._files and inside.is_dir() and self.layout == "ids":
            return f"did you mean {inside}?"
        return "name the files after the data set's ids, or score only what is there with allow_missing=true"


def _composed(text: str) -> str:
    """One spelling for what looks the same: some file systems take the accents of a name apart."""
    return unicodedata.normalize("NFC", text)


def _unreadable(paths: Iterable[Path]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return [fault for fault in pool.map(_fault, paths) if fault]


def _fault(path: Path) -> str:
    try:
        with Image.open(path) as image:
            if image.format == "PNG":
                image.verify()  # checksums of the whole file: many times faster than decoding it
                return ""
    except Exception as error:  # whatever it is, decoding says it in our words
        LOG.debug("%s: %r", path, error)
    try:
        open_image(path)
    except DataError as error:
        return str(error)
    return ""


def _listing(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{len(names)} {kind}: {shown}" + (", ..." if len(names) > _NAMES_SHOWN else "")
