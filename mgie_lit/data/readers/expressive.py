"""Expressive instructions that do not come with a data set: from a file, or the raw words."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc

from mgie_lit.data.readers.annotations import content_hash, optional_text, read_json, read_lines
from mgie_lit.data.readers.index import MappedTable, writable_place, write_table
from mgie_lit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOG = logging.getLogger(__name__)

RAW_WORDS = "instruction"  # value of data.expressive: the human's words stand in for what an MLLM would derive
COLUMN = "expressive_instruction"
_warned: set[str] = set()


def load_expressive(rows: MappedTable, given: str | Sequence[str] | None, *, option: str, name: str) -> MappedTable:
    """Expressive instructions in the order of a data set.

    Args:
        rows: Of the data set.
        given: Value of ``data.expressive``: None, :data:`RAW_WORDS`, a path, or several.
        option: Config key of the data set, for messages.
        name: Of the reader.

    Returns:
        A table with the column ``expressive_instruction``, as long as ``rows``; a text that the user gave comes before
        the data set's own. Those of a stored index are stored beside it, so that workers map them together.

    Raises:
        ConfigError: A file is not there.
        DataError: A file can not be read.
    """
    if given is None:
        return rows
    if given == RAW_WORDS:
        warn_raw_words(option, name)
        return MappedTable(pa.table({COLUMN: rows.table["instruction"]}))
    files = expressive_files(given, option)
    if rows.path is None:
        return MappedTable(_joined(rows.table, files, name))
    path = writable_place(rows.path.with_suffix(f".expressive-{content_hash(*files)[:16]}.arrow"))
    if not path.exists():
        table = _joined(rows.table, files, name)
        write_table([table], table.schema, path)
    return MappedTable.open(path)


def expressive_files(given: str | Sequence[str], option: str) -> list[Path]:
    """The files that ``data.expressive`` names.

    Args:
        given: A path, or several.
        option: Config key, for messages.

    Returns:
        Paths of files that are there.

    Raises:
        ConfigError: One is not there.
    """
    paths = [Path(part).expanduser() for part in ([given] if isinstance(given, str | Path) else given)]
    for path in paths:
        if not path.is_file():
            raise ConfigError(
                f"{option}.expressive: expected a file made by `mgie prepare expressive`, the _expressive.json of "
                f"ml-mgie, or the word {RAW_WORDS}, got {path}, which is not a file; check its spelling"
            )
    return paths


def read_expressive(paths: Sequence[Path]) -> Iterator[tuple[str, str | None]]:
    """Ids and texts of files of expressive instructions.

    Args:
        paths: Files of JSON lines with ``id`` and ``expressive_instruction``, or ml-mgie's JSON object.

    Yields:
        Sample id and text; None where the text is empty.

    Raises:
        DataError: A file can not be read, or a row lacks its keys.
    """
    for path in paths:
        yield from _reference_rows(path) if _is_object(path) else _line_rows(path)


def expressive_column(ids: pa.ChunkedArray, rows: Iterator[tuple[str, str | None]], name: str) -> pa.ChunkedArray:
    """Texts in the order of a data set.

    Args:
        ids: Sample ids of the data set.
        rows: From :func:`read_expressive`; of two rows with one id the later counts.
        name: Of the reader; ids that a mixture has prefixed with it are found, too.

    Returns:
        A text for each id, null where there is none.
    """
    texts = dict(rows)
    known, values = pa.array(texts.keys(), pa.string()), pa.array(texts.values(), pa.string())
    found = pc.index_in(ids, value_set=known)
    prefixed = pc.binary_join_element_wise(name, ids, "-")
    return values.take(pc.coalesce(found, pc.index_in(prefixed, value_set=known)))


def warn_raw_words(option: str, name: str) -> None:
    """Say once a process that raw words stand in for expressive instructions."""
    if name not in _warned:
        _warned.add(name)
        LOG.warning(
            "%s.expressive=%s: the raw words of %s stand in for expressive instructions; a system trained so learns to "
            "repeat them",
            option,
            RAW_WORDS,
            name,
        )


def _joined(table: pa.Table, files: Sequence[Path], name: str) -> pa.Table:
    given = expressive_column(table["sample_id"], read_expressive(files), name)
    return pa.table({COLUMN: pc.coalesce(given, table[COLUMN])})


def _is_object(path: Path) -> bool:
    """Whether the file is one JSON object over several lines, as ml-mgie writes it, rather than an object a line."""
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        first = next((line for line in file if line.strip()), "")
    try:
        content = json.loads(first)
    except ValueError:
        return True
    return not (isinstance(content, dict) and "id" in content)


def _line_rows(path: Path) -> Iterator[tuple[str, str | None]]:
    for number, entry in read_lines(path):
        if not isinstance(entry.get("id"), str) or "expressive_instruction" not in entry:
            raise DataError(
                f"{path}, line {number}: expected a text under `id` and the key `expressive_instruction`, got "
                f"{str(entry)[:80]}; give a file made by `mgie prepare expressive`"
            )
        yield entry["id"], optional_text(entry, "expressive_instruction")


def _reference_rows(path: Path) -> Iterator[tuple[str, str | None]]:
    """``{"<name>_<seed>_0": {"instruction", "expressive"}}``: the key is the source's, the id goes without ``_0``."""
    content = read_json(path)
    if not isinstance(content, dict) or not all(isinstance(entry, dict) for entry in content.values()):
        raise DataError(
            f"{path}: expected JSON lines with `id` and `expressive_instruction`, or ml-mgie's object of objects; "
            "give a file made by `mgie prepare expressive`"
        )
    for key, entry in content.items():
        yield key.removesuffix("_0"), optional_text(entry, "expressive")
