"""What can be evaluated: anything that turns examples into edited images."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from mgie_lit.data.image_files import open_image
from mgie_lit.errors import DataError
from mgie_lit.functional.randomness import keyed_generator
from mgie_lit.sampling.edit import edit_images
from mgie_lit.types import EditedImage, EditExample

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mgie_lit.editor import Editor
    from mgie_lit.sampling.edit import SamplingOptions

PREDICTION_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")
_NAMES_SHOWN = 5


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
            [example.instruction for example in examples],
            options=self.options,
            generators=[keyed_generator(seed, example.sample_id) for example in examples],
        )


class PredictionFolder:
    """Images that any system made before, one ``<sample_id>.png|jpg|jpeg|webp`` a sample.

    Args:
        folder: Where they lie; folders inside it are not looked into.
        allow_missing: Score the samples that have a prediction and leave images without a sample aside. Two images
            for one sample, and images that can not be read, are errors all the same.

    Raises:
        DataError: ``folder`` is not a folder.
    """

    def __init__(self, folder: str | Path, *, allow_missing: bool = False) -> None:
        self.folder = Path(folder)
        self.allow_missing = allow_missing
        if not self.folder.is_dir():
            raise DataError(
                f"predictions: expected a folder with one <sample_id>.png a sample, got {self.folder}, "
                "which is not a folder; check its spelling"
            )
        self._files: dict[str, list[Path]] = {}
        for path in sorted(self.folder.iterdir()):
            if path.suffix.lower() in PREDICTION_SUFFIXES and path.is_file():
                self._files.setdefault(path.stem, []).append(path)

    def check(self, sample_ids: Sequence[str]) -> None:
        """Compare the files with the data set and decode each of them once.

        Args:
            sample_ids: All ids of the data set.

        Raises:
            DataError: Predictions are missing, extra, ambiguous or unreadable; one message for all.
        """
        wanted = set(sample_ids)
        matched = [path for name, paths in self._files.items() if name in wanted for path in paths]
        faults = {
            "missing": [] if self.allow_missing else [name for name in sample_ids if name not in self._files],
            "extra": [] if self.allow_missing else [name for name in self._files if name not in wanted],
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
                f"predictions: expected one <sample_id>.png|jpg|jpeg|webp for each of {len(sample_ids)} samples in "
                f"{self.folder}, got: {found}; {self._remedy()}"
            )

    def __call__(self, examples: Sequence[EditExample], *, seed: int) -> list[EditedImage | None]:
        """The predictions, decoded; None where there is none.

        Args:
            examples: Only their ids are read.
            seed: Has no effect.

        Returns:
            One prediction an example, in order.

        Raises:
            DataError: A file can not be read.
        """
        paths = [self._files.get(example.sample_id) for example in examples]
        return [EditedImage(open_image(found[0])) if found else None for found in paths]

    def _remedy(self) -> str:
        inside = self.folder / "images"
        if not self._files and inside.is_dir():
            return f"did you mean {inside}?"
        return "name the files after the data set's ids, or score only what is there with allow_missing=true"


def _unreadable(paths: Iterable[Path]) -> list[str]:
    with ThreadPoolExecutor() as pool:
        return [fault for fault in pool.map(_fault, paths) if fault]


def _fault(path: Path) -> str:
    try:
        open_image(path)
    except DataError as error:
        return str(error)
    return ""


def _listing(kind: str, names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMES_SHOWN])
    return f"{len(names)} {kind}: {shown}" + (", ..." if len(names) > _NAMES_SHOWN else "")
