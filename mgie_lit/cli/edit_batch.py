"""Rows of ``mgie edit --batch``."""

from __future__ import annotations

import json
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.cli.image_output import save_image
from mgie_lit.cli.messages import shows_tracebacks
from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from PIL import Image

    from mgie_lit.cli.edit_model import EditModel


@dataclass(frozen=True, slots=True)
class EditRow:
    """One edit to make."""

    line: int  # in the batch file, from 1
    source: Path
    instruction: str
    row_id: str  # safe as a file name

    @property
    def output_name(self) -> str:
        """Name of the edited image."""
        return f"{self.row_id}.png"


def read_rows(path: Path) -> list[EditRow]:
    """Read a batch file: JSON lines with ``source_file_name``, ``instruction`` and optionally ``id``.

    Args:
        path: The file; image paths are relative to its folder.

    Returns:
        Its rows in order, with unique ids; at least one.

    Raises:
        DataError: The file is missing or empty, or has faulty lines; the message names each of them.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise DataError(f"--batch: expected a file of JSON lines, cannot read {path}: {reason}") from error
    rows: dict[str, EditRow] = {}
    faults: list[str] = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        parsed = _parse_row(line, number, path.parent)
        if isinstance(parsed, str):
            faults.append(f"{path}, line {number}: {parsed}")
        elif parsed.output_name.casefold() in rows:
            first = rows[parsed.output_name.casefold()].line
            faults.append(
                f"{path}, lines {first} and {number}: both have the id {parsed.row_id}; give each its own `id`"
            )
        else:
            rows[parsed.output_name.casefold()] = parsed  # some file systems do not tell a.png from A.png
    if faults:
        raise DataError("\n".join(faults))
    if not rows:
        raise DataError(f"--batch: expected rows with source_file_name and instruction, but {path} has none")
    return list(rows.values())


def edit_rows(rows: list[EditRow], folder: Path, model: EditModel, *, batch_size: int = 1) -> int:
    """Edit every row; one that fails is reported on stderr and does not stop the others.

    Args:
        rows: What to edit.
        folder: Where ``<id>.png`` goes.
        model: The editor.
        batch_size: Rows that are edited together, at least 1. Where one of them fails, these are edited one by one.

    Returns:
        Number of rows that failed.
    """
    from tqdm import tqdm

    failures: dict[int, str] = {}
    with tqdm(total=len(rows), desc="edits", disable=not sys.stderr.isatty()) as progress:
        for start in range(0, len(rows), batch_size):
            for row, result in _edit_together(rows[start : start + batch_size], folder, model):
                progress.update()
                if isinstance(result, str):
                    tqdm.write(f"{row.row_id}: {result}", file=sys.stdout)
                    continue
                failures[row.line] = f"line {row.line} ({row.row_id}): {result or type(result).__name__}"
                if shows_tracebacks():
                    traceback.print_exception(result)
    if failures:
        sys.stderr.write(
            "\n".join([f"{len(failures)} of {len(rows)} rows failed:", *(failures[line] for line in sorted(failures))])
            + "\n"
        )
    return len(failures)


def _edit_together(rows: list[EditRow], folder: Path, model: EditModel) -> Iterator[tuple[EditRow, str | Exception]]:
    """Each row with its expressive instruction, or with what went wrong; its image is written."""
    from mgie_lit.data.image_files import open_image

    images: dict[int, Image.Image] = {}
    for row in rows:
        try:
            images[row.line] = open_image(row.source)
        except Exception as error:  # whatever is wrong with a row, the others are made
            yield row, error
    opened = [row for row in rows if row.line in images]
    if not opened:
        return
    try:
        edited = model.edit_all([images[row.line] for row in opened], [row.instruction for row in opened])
    except Exception as error:
        if len(opened) > 1:  # one of them can not be edited, or all together need too much memory
            for row in opened:
                yield from _edit_together([row], folder, model)
        else:
            yield opened[0], error
        return
    for row, (image, expressive_instruction) in zip(opened, edited, strict=True):
        try:
            save_image(image, folder / row.output_name)
        except Exception as error:
            yield row, error
        else:
            yield row, expressive_instruction


def _parse_row(line: str, number: int, folder: Path) -> EditRow | str:
    """A row, or what is wrong with its line."""
    try:
        content = json.loads(line)
    except json.JSONDecodeError as error:
        return f"expected a JSON object, cannot read it: {error.msg} at column {error.colno}"
    if not isinstance(content, dict):
        return f"expected a JSON object, got a {type(content).__name__}"
    source, instruction = content.get("source_file_name"), content.get("instruction")
    for key, value in (("source_file_name", source), ("instruction", instruction)):
        if not isinstance(value, str) or not value.strip():
            return f"expected a text under {key}, got {value!r}"
    row_id = _row_id(content.get("id"), str(source))
    if row_id is None:
        return f"expected an `id` that is safe as a file name, got {content['id']!r}"
    return EditRow(number, folder / str(source), str(instruction), row_id)


def _row_id(given: Any, source: str) -> str | None:  # noqa: ANN401 - any JSON value
    if given is None:
        return Path(source).stem
    text = str(given) if isinstance(given, str | int) and not isinstance(given, bool) else ""
    is_safe = text.strip() == text and text not in {"", ".", ".."} and not set(text) & set('/\\:*?"<>|\0\n\r\t')
    return text if is_safe else None
