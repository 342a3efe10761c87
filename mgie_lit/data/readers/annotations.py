"""Annotation files: finding them, reading JSON, and checking what it holds."""

from __future__ import annotations

import gzip
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_READ_BYTES = 2**20


def read_json(path: Path) -> Any:  # noqa: ANN401 - any JSON value
    """Content of a JSON file, ``.gz`` or not; a bare ``NaN``, as pandas writes it, is read as a float.

    Args:
        path: The file.

    Returns:
        Plain containers.

    Raises:
        DataError: The file can not be read, or is not JSON.
    """
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb") as file:
            return json.loads(file.read().decode("utf-8-sig"))
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error}); copy or download it again") from error
    except ValueError as error:
        raise DataError(f"{path}: expected JSON, got something else ({error}); copy or download it again") from error


def read_list(path: Path) -> list[dict[str, Any]]:
    """Content of a JSON file that is a list of objects.

    Args:
        path: The file.

    Returns:
        The objects.

    Raises:
        DataError: The file can not be read, or holds something else.
    """
    content = read_json(path)
    if not isinstance(content, list):
        raise DataError(f"{path}: expected a list of objects, got a {type(content).__name__}; is it the right file?")
    for index, entry in enumerate(content):
        if not isinstance(entry, dict):
            raise DataError(f"{path}, row {index}: expected an object, got a {type(entry).__name__}; repair this row")
    return content


def read_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Objects of a file of JSON lines with the number of their line, from 1; empty lines are left out.

    Args:
        path: The file.

    Yields:
        Line number and object.

    Raises:
        DataError: The file can not be read, or a line is no JSON object.
    """
    try:
        with path.open(encoding="utf-8-sig") as file:
            for number, line in enumerate(file, start=1):
                if line.strip():
                    yield number, _parse_line(line, f"{path}, line {number}")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected a file of JSON lines, but it cannot be read ({error})") from error


def text_of(entry: dict[str, Any], key: str, where: str) -> str:
    """A text that has to be there.

    Args:
        entry: An annotation.
        key: Its key.
        where: File and row, for the message.

    Returns:
        The text as it stands: the owners' words, blanks and all.

    Raises:
        DataError: The key is missing, or its value is no text or empty.
    """
    value = entry.get(key)
    if not isinstance(value, str) or not value.strip():
        raise DataError(f"{where}: expected a text under {key!r}, got {value!r}; repair or remove this row")
    return value


def optional_text(entry: dict[str, Any], key: str) -> str | None:
    """A text that may be missing, null, ``NaN`` or empty: then None."""
    value = entry.get(key)
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    return str(value) if str(value).strip() else None


def source_caption(entry: dict[str, Any], *keys: str) -> dict[str, str]:
    """The attribute by which `clip_direction` finds the description of a source, under the first key that has one."""
    found = (optional_text(entry, key) for key in keys)
    text = next((text for text in found if text is not None), None)
    return {} if text is None else {"source_caption": text}


def texts_of(entry: dict[str, Any], key: str, where: str) -> list[str]:
    """A list of texts; a missing one counts as empty.

    Args:
        entry: An annotation.
        key: Its key.
        where: File and row, for the message.

    Returns:
        The texts as they stand.

    Raises:
        DataError: The value is no list, or holds something else than texts with at least one letter.
    """
    value = entry.get(key, [])
    if not isinstance(value, list) or not all(isinstance(text, str) and text.strip() for text in value):
        raise DataError(f"{where}: expected a list of texts under {key!r}, got {value!r}; repair or remove this row")
    return value


def find_file(folders: Sequence[Path], names: Sequence[str]) -> Path | None:
    """The first of several possible files; folders come before names."""
    return next((path for folder in folders for name in names if (path := folder / name).is_file()), None)


def split_files(
    root: Path, folders: Sequence[Path], names: Mapping[str, str], *, needed: str, option: str, anchor: str
) -> dict[str, Path]:
    """Annotation files of the splits that are there.

    Args:
        root: Folder of the data.
        folders: Where the files may lie.
        names: Split -> file name.
        needed: The split that has to be there.
        option: Config key of the folder.
        anchor: Section of ``docs/datasets.md``.

    Returns:
        Split -> file, for all splits whose file is there.

    Raises:
        DataError: The file of the needed split is not there.
    """
    found = {split: find_file(folders, [name]) for split, name in names.items()}
    if found[needed] is None:
        raise no_layout(option, root, names[needed], anchor, [names[needed]])
    return {split: path for split, path in found.items() if path}


def no_layout(option: str, root: Path, expected: str, anchor: str, inside: Sequence[str] = ()) -> DataError:
    """The error of a folder without the files of a layout, with a better folder where one is near.

    Args:
        option: Config key of the folder.
        root: The folder given.
        expected: What should be in it.
        anchor: Section of ``docs/datasets.md``.
        inside: File names, any of which would make a folder the right one.

    Returns:
        The error, to be raised.
    """
    folders = [root.parent, *sorted(path for path in root.iterdir() if path.is_dir())[:1000]]
    near = next((folder for folder in folders if any((folder / name).exists() for name in inside)), None)
    hint = f" (did you mean {near}?)" if near else ""
    return DataError(f"{option}: no {expected} in {root}; expected a layout of docs/datasets.md#{anchor}{hint}")


def content_hash(*paths: Path) -> str:
    """SHA-256 over the contents of files, in order."""
    digest = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            while block := file.read(_READ_BYTES):
                digest.update(block)
        digest.update(b"\0end of file\0")
    return digest.hexdigest()


def _parse_line(line: str, where: str) -> dict[str, Any]:
    try:
        content = json.loads(line)
    except ValueError as error:
        raise DataError(f"{where}: expected a JSON object, cannot read it ({error}); repair this line") from error
    if not isinstance(content, dict):
        raise DataError(f"{where}: expected a JSON object, got a {type(content).__name__}; repair this line")
    return content
