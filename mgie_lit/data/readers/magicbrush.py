"""MagicBrush (Zhang et al., NeurIPS 2023, arXiv:2306.10012): edits by hand in sessions of up to three turns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from mgie_lit.data.readers.annotations import no_layout, optional_text, read_json, text_of
from mgie_lit.data.readers.column_reader import ColumnReader
from mgie_lit.data.readers.columns import is_columns
from mgie_lit.data.readers.index import UNDIVIDED, MappedTable, Part, in_memory
from mgie_lit.data.readers.rows import Row
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from PIL import Image

    from mgie_lit.data.readers.columns import Columns

SESSIONS = "edit_sessions.json"  # holds all of `edit_turns.json`, in order
FOLDERS = {"train": "train", "val": "dev", "test": "test"}
VIEWS = ("single_turn", "multi_turn")
DESCRIPTIONS = {"local": "local_descriptions.json", "global": "global_descriptions.json"}
JOIN = ". "  # between the instructions of a session in the multi-turn view
COLUMNS = {
    "img_id": ("img_id",),
    "turn_index": ("turn_index",),
    "instruction": ("instruction",),
    "source": ("source_img", "input_img"),
    "target": ("target_img", "output_img"),
    "mask": ("mask_img",),
}


class MagicBrush(ColumnReader):
    """A turn is an example, edited from its true input; or a session is one, from its first input to its last output.

    Turns of a session share their ``session_id`` and stand in order, so that chains can be run on them.

    Args:
        split: ``train``, ``val`` (the owners' dev) or ``test``.
        num_examples: As in :class:`ColumnReader`.
        root: The folder with ``train``, ``dev`` and ``test``, one of these, or Hugging Face's columns.
        view: ``single_turn`` or ``multi_turn``; the latter joins the instructions of a session and has no mask.
        captions: Which of the owners' descriptions of the target becomes the ``caption``: ``local`` (of what was
            edited, as in the paper) or ``global`` (of the whole picture). They come with dev and test only.
        streaming: As in :class:`ColumnReader`.
        streaming_mib: As in :class:`ColumnReader`.
        expressive: As in :class:`ColumnReader`.
        on_error: As in :class:`ColumnReader`.
        exclude: As in :class:`ColumnReader`.
        index_dir: As in :class:`ColumnReader`.
        option: As in :class:`ColumnReader`.

    Raises:
        ConfigError: A value can not be used.
        DataError: The folder does not hold the data set, or its annotations are faulty.
    """

    name = "magicbrush"

    def __init__(
        self,
        split: str,
        num_examples: int | None = None,
        *,
        root: str | Path | None = None,
        view: str = "single_turn",
        captions: str = "local",
        streaming: bool = False,
        streaming_mib: int = 256,
        expressive: str | Sequence[str] | None = None,
        on_error: str = "error",
        exclude: str | Path | None = None,
        index_dir: str | Path | None = None,
        option: str = "data",
    ) -> None:
        for key, value, known in (("view", view, VIEWS), ("captions", captions, tuple(DESCRIPTIONS))):
            if value not in known:
                raise ConfigError(
                    f"{option}.{key}: expected one of {', '.join(known)}, got {value!r}; use one of these"
                )
        self.view = view
        self.captions = captions
        super().__init__(
            split,
            num_examples,
            root=root,
            streaming=streaming,
            streaming_mib=streaming_mib,
            expressive=expressive,
            on_error=on_error,
            exclude=exclude,
            index_dir=index_dir,
            option=option,
        )

    def load(self) -> MappedTable:
        """Find the layout and read the sessions of all splits that are there."""
        self.image_dir = self.root
        folders = {split: self.root / folder for split, folder in FOLDERS.items()}
        if (self.root / SESSIONS).is_file():  # the test split comes in an archive of its own
            folders = {_split_of(self.root): self.root}
        files = {split: folder / SESSIONS for split, folder in folders.items() if (folder / SESSIONS).is_file()}
        files = {} if self.streaming else files
        if files and not {self.split, UNDIVIDED} & set(files):
            raise DataError(
                f"{self.folder}: expected {FOLDERS[self.split]}/{SESSIONS} in {self.root}, got {', '.join(files)} "
                f"only; see docs/datasets.md#{self.name}"
            )
        if files:
            parts = [Part(split, partial(self._folder_rows, file)) for split, file in files.items()]
            return in_memory(parts, self.folder)
        if not is_columns(self.root):
            expected = f"{FOLDERS[self.split]}/{SESSIONS} or parquet file"
            raise no_layout(
                self.folder, self.root, expected, self.name, [SESSIONS, f"{FOLDERS[self.split]}/{SESSIONS}"]
            )
        splits = self.open_columns(COLUMNS, optional=("mask",))
        by_split = {split: splits[name] for split, name in FOLDERS.items() if name in splits}
        self._columns = by_split.get(self.split)
        parts = [Part(split, partial(self._column_rows, columns)) for split, columns in by_split.items()]
        return in_memory(parts, self.folder)

    def open_images(self, row: Row) -> tuple[Image.Image, Image.Image | None, Image.Image | None]:
        """Source, target and mask of a row.

        Args:
            row: Of this data set.

        Returns:
            RGB, RGB and L (source's size, 255 = edited region) where there is a mask.

        Raises:
            DataError: An image is missing or can not be decoded.
        """
        if self._columns is None:
            return super().open_images(row)
        columns = self._columns
        source = columns.image(int(row.source), "source")
        mask = None if row.mask is None else columns.mask(int(row.mask), "mask", source.size)
        return source, None if row.target is None else columns.image(int(row.target), "target"), mask

    def source_size(self, row: Row) -> tuple[int, int]:
        """Width and height in pixels of a row's source."""
        if self._columns is None:
            return super().source_size(row)
        return self._columns.size(int(row.source), "source")

    def _folder_rows(self, file: Path) -> Iterator[Row]:
        sessions = read_json(file)
        if not isinstance(sessions, dict):
            raise DataError(f"{file}: expected {{id: [turn, ...]}}, got a {type(sessions).__name__}; copy it again")
        described = file.with_name(DESCRIPTIONS[self.captions])
        captions = read_json(described) if described.is_file() else {}
        for session_id, turns in sessions.items():
            where = f"{file.parent.name}/{SESSIONS}, {session_id}"
            if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
                raise DataError(f"{file}, {session_id}: expected a list of turns, got {str(turns)[:80]}; repair it")
            images = (file.parent / "images" / session_id).relative_to(self.root).as_posix()
            rows = [
                _folder_row(session_id, images, captions.get(session_id, {}), *turn, where)
                for turn in enumerate(turns, 1)
            ]
            yield from self._viewed(rows)

    def _column_rows(self, columns: Columns) -> Iterator[Row]:
        sessions: dict[str, list[Row]] = {}
        has_mask = "mask" in columns.names
        for position, entry in enumerate(columns.texts(["img_id", "turn_index", "instruction"], range(len(columns)))):
            row = _column_row(entry, position, has_mask, f"{columns.where}, row {position}")
            sessions.setdefault(row.session_id, []).append(row)
        for rows in sessions.values():
            yield from self._viewed(sorted(rows, key=lambda row: row.turn))

    def _viewed(self, turns: list[Row]) -> list[Row]:
        """The rows that a session gives in this view."""
        if self.view == "single_turn" or not turns:
            return turns
        words = JOIN.join(turn.instruction.rstrip(" .") for turn in turns)
        return [replace(turns[-1], source=turns[0].source, instruction=words, mask=None)]


def _split_of(folder: Path) -> str:
    """Which split a folder is by its name; any other name means that the data are not divided."""
    return next((split for split, name in FOLDERS.items() if name == folder.resolve().name), UNDIVIDED)


def _folder_row(session_id: str, images: str, captions: Any, number: int, turn: dict[str, Any], where: str) -> Row:  # noqa: ANN401
    where = f"{where}, turn {number}"
    target, mask = text_of(turn, "output", where), optional_text(turn, "mask")
    return Row(
        sample_id=f"{session_id}-{number}",
        instruction=text_of(turn, "instruction", where),
        source=f"{images}/{text_of(turn, 'input', where)}",
        target=f"{images}/{target}",
        mask=mask and f"{images}/{mask}",
        caption=optional_text(captions, target) if isinstance(captions, dict) else None,
        turn=number,
        session_id=session_id,
        origin=where,
    )


def _column_row(entry: dict[str, Any], position: int, has_mask: bool, where: str) -> Row:
    session_id, turn = str(entry["img_id"]), int(entry["turn_index"])
    return Row(
        sample_id=f"{session_id}-{turn}",
        instruction=text_of(entry, "instruction", where),
        source=str(position),
        target=str(position),
        mask=str(position) if has_mask else None,
        turn=turn,
        session_id=session_id,
        origin=where,
    )
