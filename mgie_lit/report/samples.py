"""The grid of samples: each with its source and target, and every system's edit and how far it is from the target."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mgie_lit.report.images import MAX_SIDE, difference_map, encode, encode_or_none, open_or_none
from mgie_lit.report.pictures import (
    find_image,
    first_seed,
    kept_roles,
    operation_column,
    ranking_metric,
    rows_of,
    score_notes,
    text_of,
)
from mgie_lit.report.verdict import higher_is_better, metric_label

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from PIL import Image

    from mgie_lit.report.read import Evaluation

MAX_SAMPLES = 400
SIDES = (MAX_SIDE, 160, 128, 96, 64)  # pixels of a thumbnail; the largest that the budget allows is taken
NUM_PROBES = 8  # samples that the size is estimated from
MAX_CATEGORIES = 40  # values of an attribute that can be filtered by
_RESERVE = 0.9  # of the budget, for samples that are larger than the probes


@dataclass(frozen=True)
class Output:
    """What one system made of a sample."""

    system: int  # its place among the grid's systems
    edited: str | None  # data URI
    difference: str | None  # data URI; how far from the target
    expressive_instruction: str
    scores: str
    badness: float | None  # larger is worse; for the order

    @property
    def num_bytes(self) -> int:
        """Length of the data URIs."""
        return sum(len(uri) for uri in (self.edited, self.difference) if uri)


@dataclass(frozen=True)
class SampleCard:
    """One sample of the grid."""

    sample_id: str
    instruction: str
    expressive_target: str  # "" where the data set has none
    source: str | None  # data URI
    target: str | None
    categories: dict[str, str]  # attribute -> value
    outputs: list[Output]

    @property
    def num_bytes(self) -> int:
        """Length of the data URIs."""
        own = sum(len(uri) for uri in (self.source, self.target) if uri)
        return own + sum(output.num_bytes for output in self.outputs)

    @property
    def search_text(self) -> str:
        """All words of the card, in small letters."""
        written = [output.expressive_instruction for output in self.outputs]
        return " ".join([self.sample_id, self.instruction, self.expressive_target, *written]).lower()


@dataclass(frozen=True)
class SampleGrid:
    """Samples of evaluations of the same data."""

    systems: list[str]
    cards: list[SampleCard]
    filters: dict[str, list[str]]  # attribute -> values that can be chosen
    ranked_by: str  # label of the metric behind the order; "" where there is none
    num_samples: int  # of the data
    max_side: int  # pixels
    budget: int  # bytes

    @property
    def num_bytes(self) -> int:
        """Length of all data URIs."""
        return sum(card.num_bytes for card in self.cards)

    @property
    def size_note(self) -> str:
        """How much of the data is shown, how large, and why."""
        return (
            f"Shown are {len(self.cards)} of {self.num_samples} samples, thumbnails of at most {self.max_side} px; "
            f"their images take {self.num_bytes / 1e6:.1f} MB of the {self.budget / 1e6:.1f} MB that they may."
        )


def make_grid(group: Sequence[Evaluation], *, budget: int) -> SampleGrid | None:
    """Up to 400 samples spread over the operations, as large as the budget allows.

    Args:
        group: Evaluations of the same data, at least one; of several seeds the first is shown.
        budget: Bytes that all images together may take.

    Returns:
        None where no evaluation keeps edited images.
    """
    tables = {one.name: first_seed(one) for one in group}
    shown = [one for one in group if "edited" in kept_roles(one, tables[one.name])]
    if not shown:
        return None
    by_id = [{str(row["sample_id"]): row for row in rows_of(tables[one.name])} for one in shown]
    every = pd.concat([tables[one.name] for one in shown]).drop_duplicates("sample_id")
    chosen = choose_even(every, MAX_SAMPLES, operation_column(shown[0]))
    ids = [str(name) for name in chosen["sample_id"]]
    filters = _filters(shown, chosen)
    side = _choose_side(shown, by_id, ids, filters, budget)
    cards = list(_within(budget, (_card(shown, by_id, name, filters, side) for name in ids)))
    metric = ranking_metric(shown[0])
    return SampleGrid(
        systems=[one.name for one in shown],
        cards=cards,
        filters=filters,
        ranked_by=metric_label(metric) if metric else "",
        num_samples=len(every),
        max_side=side,
        budget=budget,
    )


def choose_even(table: pd.DataFrame, count: int, column: str | None) -> pd.DataFrame:
    """Rows spread evenly over the values of a column, and within each over the table.

    Args:
        table: A row a sample.
        count: Rows wanted; fewer come where there are fewer.
        column: None = spread over the table alone.

    Returns:
        The chosen rows, those of one value together.
    """
    if column is None or column not in table:
        return table.iloc[_spread(len(table), count)]
    groups = [rows for _, rows in table.groupby(column, sort=True, dropna=False)]
    groups = [groups[index] for index in _spread(len(groups), count)]
    shares = [0] * len(groups)
    while sum(shares) < min(count, sum(map(len, groups))):  # one more for each group that has one, in turn
        for index, rows in enumerate(groups):
            if shares[index] < len(rows) and sum(shares) < count:
                shares[index] += 1
    chosen = [rows.iloc[_spread(len(rows), share)] for rows, share in zip(groups, shares, strict=True)]
    return pd.concat(chosen) if chosen else table.head(0)


def _spread(length: int, count: int) -> list[int]:
    """Up to ``count`` indices below ``length``, evenly spread."""
    count = min(length, count)
    return [index * length // count for index in range(count)]


def _filters(group: Sequence[Evaluation], chosen: pd.DataFrame) -> dict[str, list[str]]:
    names = dict.fromkeys(name for one in group for name in one.section("groups") if name in chosen)
    values = {name: sorted({str(value) for value in chosen[name].dropna()}) for name in names}
    return {name: found for name, found in values.items() if 1 < len(found) <= MAX_CATEGORIES}


def _choose_side(
    group: Sequence[Evaluation],
    by_id: Sequence[dict[str, dict[str, Any]]],
    ids: Sequence[str],
    filters: dict[str, list[str]],
    budget: int,
) -> int:
    probes = [ids[index] for index in _spread(len(ids), NUM_PROBES)]
    for side in SIDES[:-1]:
        sizes = [_card(group, by_id, name, filters, side).num_bytes for name in probes]
        if float(np.mean(sizes)) * len(ids) <= _RESERVE * budget:
            return side
    return SIDES[-1]


def _within(budget: int, cards: Iterator[SampleCard]) -> Iterator[SampleCard]:
    used = 0
    for card in cards:
        used += card.num_bytes
        if used > budget:
            return
        yield card


def _card(
    group: Sequence[Evaluation],
    by_id: Sequence[dict[str, dict[str, Any]]],
    name: str,
    filters: dict[str, list[str]],
    side: int,
) -> SampleCard:
    having = [
        (index, one, rows[name]) for index, (one, rows) in enumerate(zip(group, by_id, strict=True)) if name in rows
    ]
    source, target = (_first_image(having, role) for role in ("source", "target"))
    first = having[0][2]
    return SampleCard(
        sample_id=name,
        instruction=text_of(first, "instruction"),
        expressive_target=text_of(first, "expressive_target"),
        source=encode_or_none(source, side),
        target=encode_or_none(target, side),
        categories={key: str(first[key]) for key in filters if key in first},
        outputs=[_output(index, one, row, target, side) for index, one, row in having],
    )


def _first_image(having: Sequence[tuple[int, Evaluation, dict[str, Any]]], role: str) -> Image.Image | None:
    """All systems have the same source and target, but not each keeps them."""
    images = (open_or_none(find_image(one.path, row, role)) for _, one, row in having)
    return next((image for image in images if image), None)


def _output(index: int, evaluation: Evaluation, row: dict[str, Any], target: Image.Image | None, side: int) -> Output:
    edited = open_or_none(find_image(evaluation.path, row, "edited"))
    metric = ranking_metric(evaluation)
    score = float(row[metric]) if metric and pd.notna(row.get(metric)) else None
    sign = -1.0 if metric and higher_is_better(metric, evaluation) else 1.0
    return Output(
        system=index,
        edited=encode_or_none(edited, side),
        difference=encode(difference_map(edited, target), side) if edited and target else None,
        expressive_instruction=text_of(row, "expressive_instruction"),
        scores=" · ".join(score_notes(evaluation, row)),
        badness=None if score is None else sign * score,
    )
