"""Which samples to show, and their images as small data URIs."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pandas as pd
from PIL import Image

from mgie_lit.report.verdict import format_value, higher_is_better, metric_label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mgie_lit.report.read import Evaluation

MAX_SIDE = 224  # pixels of an image on the page
MAX_GRID_SIDE = 2400  # pixels of a ready-made grid
JPEG_QUALITY = 85
NUM_EXTREMES = 3  # best and worst samples each
GRID_FILE = "grid.png"
_IMAGE_COLUMNS = {
    "source": ("source_image", "source_path"),
    "edited": ("image", "image_path"),
    "target": ("target_image", "target_path"),
}
_FALLBACK = {"source": "sources/{}.png", "edited": "images/{}.png", "target": "targets/{}.png"}


@dataclass(frozen=True)
class Card:
    """One sample on the page."""

    sample_id: str
    images: dict[str, str | None]  # source, edited, target -> data URI; a role that no card has is left out
    instruction: str
    expressive_instruction: str  # what the model wrote; "" where it writes none
    expressive_target: str  # what was asked for; "" where equal or unknown
    notes: str  # operation and scores


@dataclass(frozen=True)
class Gallery:
    """The pictures of one evaluation."""

    even: list[Card]  # spread over the operations
    best: list[Card]
    worst: list[Card]
    ranked_by: str  # label of the metric behind best and worst; "" where there is none
    grid: str | None  # data URI of grid.png, for evaluations that keep no sources


def make_gallery(evaluation: Evaluation, count: int) -> Gallery:
    """Up to ``count`` samples spread over the operations, and the best and worst few.

    Args:
        evaluation: Of several seeds the first is shown.
        count: Samples of the even choice.

    Returns:
        Cards with their images inside; no card has a role that the evaluation keeps no images for.
    """
    table = evaluation.table
    if "seed" in table:
        table = table[table["seed"] == table["seed"].iloc[0]]
    table = table.reset_index(drop=True)
    roles = [role for role in _IMAGE_COLUMNS if any(_find(evaluation.path, row, role) for row in _rows(table.head(1)))]
    metric = _ranking_metric(evaluation, table)
    ranked = _rank(table, metric, evaluation) if metric else table.head(0)
    few = min(NUM_EXTREMES, len(ranked) // 2)

    def cards(rows: pd.DataFrame) -> list[Card]:
        return [_card(evaluation, row, roles) for row in _rows(rows)]

    grid = evaluation.path / GRID_FILE
    return Gallery(
        even=cards(choose_even(table, count, operation_column(evaluation))),
        best=cards(ranked.head(few)),
        worst=cards(ranked.tail(few).iloc[::-1]),
        ranked_by=metric_label(metric) if metric else "",
        grid=None if "source" in roles else data_uri(grid, max_side=MAX_GRID_SIDE),
    )


def operation_column(evaluation: Evaluation) -> str | None:
    """The attribute that the samples are spread over: ``operation``, else the first that is grouped by."""
    groups = [name for name in evaluation.section("groups") if name in evaluation.table]
    return "operation" if "operation" in evaluation.table else next(iter(groups), None)


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


def data_uri(path: Path, *, max_side: int = MAX_SIDE) -> str | None:
    """An image file as a ``data:`` URI of a JPEG no larger than ``max_side`` pixels; None where it can not be read."""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return None
    image.thumbnail((max_side, max_side), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _spread(length: int, count: int) -> list[int]:
    """Up to ``count`` indices below ``length``, evenly spread."""
    count = min(length, count)
    return [index * length // count for index in range(count)]


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def _ranking_metric(evaluation: Evaluation, table: pd.DataFrame) -> str | None:
    names = [name for name in evaluation.metric_names if name in table and table[name].notna().any()]
    return "l1" if "l1" in names else next(iter(names), None)


def _rank(table: pd.DataFrame, metric: str, evaluation: Evaluation) -> pd.DataFrame:
    """Best first; samples without a score are left out."""
    scored = table.dropna(subset=metric)
    return scored.sort_values(metric, ascending=not higher_is_better(metric, evaluation), kind="stable")


def _find(folder: Path, row: dict[str, Any], role: str) -> Path | None:
    """The sample's image in a role; never one outside the evaluation's directory."""
    named = [row[column] for column in _IMAGE_COLUMNS[role] if isinstance(row.get(column), str)]
    for name in (*named, _FALLBACK[role].format(row["sample_id"])):
        path: Path = (folder / name).resolve()
        if path.is_file() and path.is_relative_to(folder.resolve()):
            return path
    return None


def _card(evaluation: Evaluation, row: dict[str, Any], roles: Sequence[str]) -> Card:
    paths = {role: _find(evaluation.path, row, role) for role in roles}
    written, wanted = (_text(row, key) for key in ("expressive_instruction", "expressive_target"))
    column = operation_column(evaluation)
    notes = [str(row[column])] if column and isinstance(row.get(column), str) else []
    for name in evaluation.metric_names[:2]:
        if name in row:
            copied = row.get(f"copy_{name}")
            beside = f" (copy {format_value(name, copied)})" if copied is not None else ""
            notes.append(f"{metric_label(name)} {format_value(name, row[name])}{beside}")
    return Card(
        sample_id=str(row["sample_id"]),
        images={role: data_uri(path) if path else None for role, path in paths.items()},
        instruction=_text(row, "instruction"),
        expressive_instruction=written,
        expressive_target="" if wanted == written else wanted,
        notes=" · ".join(notes),
    )


def _text(row: dict[str, Any], key: str) -> str:
    value = row.get(key)
    return value if isinstance(value, str) else ""
