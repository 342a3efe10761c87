"""Numbers that papers published, with how far they can be trusted; for rows beside measured ones."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Mapping

FILE = "published.yaml"
MARKS = {
    "C": "read in the owner's paper or code",
    "2": "two or more independent write-ups agree",
    "1": "one secondary write-up only",
}


@dataclass(frozen=True)
class PublishedSource:
    """Where numbers come from."""

    title: str
    url: str
    note: str  # what keeps them from being compared with others


@dataclass(frozen=True)
class PublishedScore:
    """One number."""

    value: float  # in the unit of `metrics.json`
    mark: str  # a key of MARKS


@dataclass(frozen=True)
class PublishedRow:
    """One system of a published table."""

    system: str
    table: str
    data: str  # as in `data=`
    turns: str | None  # `given` or `chain` where the table says so
    source: PublishedSource
    scores: Mapping[str, PublishedScore]  # metric's name -> score; what is not known is left out


@lru_cache(maxsize=1)
def published_rows() -> tuple[PublishedRow, ...]:
    """All published rows, in the order of the file."""
    content: Any = yaml.safe_load((files("mgie_lit.report") / FILE).read_text(encoding="utf-8"))
    sources = {name: PublishedSource(**source) for name, source in content["sources"].items()}
    return tuple(
        PublishedRow(
            system=row["system"],
            table=table["name"],
            data=table["data"],
            turns=table.get("turns"),
            source=sources[table["source"]],
            scores={name: PublishedScore(float(one["value"]), str(one["mark"])) for name, one in row["scores"].items()},
        )
        for table in content["tables"]
        for row in table["rows"]
    )


def rows_for(data: str, *, turns: str | None = None) -> tuple[PublishedRow, ...]:
    """Published rows of a data set.

    Args:
        data: As in ``data=``.
        turns: ``given`` or ``chain``: leave out rows that are known to be of the other; None = all.

    Returns:
        In the order of the file; empty where nothing is published.
    """
    kinds = {None, turns} if turns is not None else {None, "given", "chain"}
    return tuple(row for row in published_rows() if row.data == data and row.turns in kinds)
