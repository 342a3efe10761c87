"""Rows of a data set without their images, and tables of them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from mgie_lit.errors import DataError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("instruction", pa.string()),
        ("source", pa.string()),
        ("target", pa.string()),
        ("mask", pa.string()),
        ("expressive_instruction", pa.string()),
        ("caption", pa.string()),
        ("turn", pa.int32()),
        ("session_id", pa.string()),
        ("attributes", pa.string()),
        ("origin", pa.string()),
    ]
)
MAX_ID_LENGTH = 200  # bytes; file names may have 255, and a suffix is added
_UNSAFE_ID = r'[/\\:*?"<>|\x00-\x1f]|^\.{0,2}$|^\s|\s$'


@dataclass(frozen=True, slots=True)
class Row:
    """One example before its images are opened; ``source``, ``target`` and ``mask`` mean what its reader says."""

    sample_id: str
    instruction: str
    source: str  # usually a path relative to the folder of the images
    target: str | None = None
    mask: str | None = None
    expressive_instruction: str | None = None
    caption: str | None = None
    turn: int = 1
    session_id: str = ""
    attributes: Mapping[str, str] = field(default_factory=dict)
    origin: str = ""  # where its annotation stands, for messages: "train.json, row 12"


def make_table(rows: Iterable[Row]) -> pa.Table:
    """Rows as an Arrow table.

    Args:
        rows: In the order of the data set.

    Returns:
        A table with the columns of :data:`SCHEMA`; attributes are JSON, null where there are none.
    """
    columns: dict[str, list[Any]] = {name: [] for name in SCHEMA.names}
    for row in rows:
        for name, values in columns.items():
            values.append(getattr(row, name))
    columns["attributes"] = [json.dumps(dict(value)) if value else None for value in columns["attributes"]]
    return pa.table(columns, schema=SCHEMA)


def row_at(table: pa.Table, position: int) -> Row:
    """The row at a position of a table made by :func:`make_table`."""
    values: dict[str, Any] = table.slice(position, 1).to_pylist()[0]
    return Row(**values | {"attributes": json.loads(values["attributes"] or "{}")})


def check_ids(table: pa.Table, option: str) -> None:
    """Make sure that ids are unique and can name files.

    Args:
        table: All splits of a data set.
        option: Config key of its folder, for the message.

    Raises:
        DataError: Two rows share an id, or an id can not be a file name; the message says where the rows stand.
    """
    ids = table["sample_id"]
    if pc.count_distinct(ids).as_py() != len(ids):
        counts = pc.value_counts(ids)
        repeated = pc.filter(counts.field("values"), pc.greater(counts.field("counts"), 1))
        name = repeated[0].as_py()
        first, second, *_ = (_where(table, int(row)) for row in pc.indices_nonzero(pc.equal(ids, name)).to_pylist())
        raise DataError(
            f"{option}: expected unique ids, got {name!r} for {first} and for {second} "
            f"({len(repeated)} ids are repeated); rename one of the two"
        )
    too_long = pc.greater(pc.binary_length(ids), MAX_ID_LENGTH)
    unsafe = pc.indices_nonzero(pc.or_(pc.match_substring_regex(ids, _UNSAFE_ID), too_long))
    if len(unsafe):
        row = unsafe[0].as_py()
        raise DataError(
            f"{option}: expected ids that are safe as file names (at most {MAX_ID_LENGTH} bytes), got "
            f"{ids[row].as_py()[:80]!r} for {_where(table, row)}; rename it"
        )


def _where(table: pa.Table, row: int) -> str:
    """Where the annotation of a row stands."""
    return table["origin"][row].as_py() or f"example {row}"


def concat(tables: Sequence[pa.Table]) -> pa.Table:
    """Tables of rows one after the other; no tables give no rows."""
    return pa.concat_tables(tables) if tables else SCHEMA.empty_table()
