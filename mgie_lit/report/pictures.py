"""The best and worst samples of an evaluation, and where its images lie."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mgie_lit.report.images import MAX_SIDE, data_uri, difference_map, encode, encode_or_none, open_or_none
from mgie_lit.report.verdict import format_value, higher_is_better, metric_label

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import pandas as pd

    from mgie_lit.report.read import Evaluation

MAX_GRID_SIDE = 2400  # pixels of a ready-made grid
NUM_EXTREMES = 3  # best and worst samples each
GRID_FILE = "grid.png"
DIFFERENCE = "difference"
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
    images: dict[str, str | None]  # source, edited, target, difference -> data URI; a role without any is left out
    instruction: str
    expressive_instruction: str  # what the model wrote; "" where it writes none
    expressive_target: str  # what was asked for; "" where equal or unknown
    notes: str  # operation and scores


@dataclass(frozen=True)
class Gallery:
    """The pictures of one evaluation."""

    best: list[Card]
    worst: list[Card]
    ranked_by: str  # label of the metric behind best and worst; "" where there is none
    grid: str | None  # data URI of grid.png, for evaluations that keep no sources

    @property
    def num_bytes(self) -> int:
        """Length of all data URIs."""
        uris = [uri for card in (*self.best, *self.worst) for uri in card.images.values()]
        return sum(len(uri) for uri in (*uris, self.grid) if uri)


def make_gallery(evaluation: Evaluation, *, max_side: int = MAX_SIDE) -> Gallery:
    """The best and worst few samples.

    Args:
        evaluation: Of several seeds the first is shown.
        max_side: Pixels of an image.

    Returns:
        Cards with their images inside; no card has a role that the evaluation keeps no images for.
    """
    table = first_seed(evaluation)
    roles = kept_roles(evaluation, table)
    metric = ranking_metric(evaluation)
    ranked = _rank(table, metric, evaluation) if metric else table.head(0)
    few = min(NUM_EXTREMES, len(ranked) // 2)

    def cards(rows: pd.DataFrame) -> list[Card]:
        return [_card(evaluation, row, roles, max_side) for row in rows_of(rows)]

    grid = evaluation.path / GRID_FILE
    return Gallery(
        best=cards(ranked.head(few)),
        worst=cards(ranked.tail(few).iloc[::-1]),
        ranked_by=metric_label(metric) if metric else "",
        grid=None if "source" in roles else data_uri(grid, max_side=MAX_GRID_SIDE),
    )


def first_seed(evaluation: Evaluation) -> pd.DataFrame:
    """Rows of the first seed, a row a sample."""
    table = evaluation.table
    if "seed" in table:
        table = table[table["seed"] == table["seed"].iloc[0]]
    return table.reset_index(drop=True)


def kept_roles(evaluation: Evaluation, table: pd.DataFrame) -> list[str]:
    """Which images the first samples have: of ``source``, ``edited``, ``target``."""
    rows = rows_of(table.head(20))
    return [role for role in _IMAGE_COLUMNS if any(find_image(evaluation.path, row, role) for row in rows)]


def operation_column(evaluation: Evaluation) -> str | None:
    """The attribute that the samples are spread over: ``operation``, else the first that is grouped by."""
    groups = [name for name in evaluation.section("groups") if name in evaluation.table]
    return "operation" if "operation" in evaluation.table else next(iter(groups), None)


def rows_of(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as column -> value."""
    return [{str(key): value for key, value in row.items()} for row in table.to_dict("records")]


def ranking_metric(evaluation: Evaluation) -> str | None:
    """What samples are ranked by: L1, else the first metric with scores; None where there is none."""
    table = evaluation.table
    names = [name for name in evaluation.metric_names if name in table and table[name].notna().any()]
    return "l1" if "l1" in names else next(iter(names), None)


def find_image(folder: Path, row: dict[str, Any], role: str) -> Path | None:
    """A sample's image in a role; never one outside the evaluation's directory."""
    named = [row[column] for column in _IMAGE_COLUMNS[role] if isinstance(row.get(column), str)]
    for name in (*named, _FALLBACK[role].format(row["sample_id"])):
        path: Path = (folder / name).resolve()
        if path.is_file() and path.is_relative_to(folder.resolve()):
            return path
    return None


def text_of(row: dict[str, Any], key: str) -> str:
    """A text of a row; "" where there is none."""
    value = row.get(key)
    return value if isinstance(value, str) else ""


def score_notes(evaluation: Evaluation, row: dict[str, Any]) -> list[str]:
    """The first two metrics of a sample, with copying's beside them."""
    notes = []
    for name in evaluation.metric_names[:2]:
        if name in row:
            copied = row.get(f"copy_{name}")
            beside = f" (copy {format_value(name, copied)})" if copied is not None else ""
            notes.append(f"{metric_label(name)} {format_value(name, row[name])}{beside}")
    return notes


def _rank(table: pd.DataFrame, metric: str, evaluation: Evaluation) -> pd.DataFrame:
    """Best first; samples without a score are left out."""
    scored = table.dropna(subset=metric)
    return scored.sort_values(metric, ascending=not higher_is_better(metric, evaluation), kind="stable")


def _card(evaluation: Evaluation, row: dict[str, Any], roles: Sequence[str], max_side: int) -> Card:
    opened = {role: open_or_none(find_image(evaluation.path, row, role)) for role in roles}
    images = {role: encode_or_none(image, max_side) for role, image in opened.items()}
    edited, target = opened.get("edited"), opened.get("target")
    if "edited" in roles and "target" in roles:
        images[DIFFERENCE] = encode(difference_map(edited, target), max_side) if edited and target else None
    written, wanted = (text_of(row, key) for key in ("expressive_instruction", "expressive_target"))
    column = operation_column(evaluation)
    notes = [str(row[column])] if column and isinstance(row.get(column), str) else []
    return Card(
        sample_id=str(row["sample_id"]),
        images=images,
        instruction=text_of(row, "instruction"),
        expressive_instruction=written,
        expressive_target="" if wanted == written else wanted,
        notes=" · ".join([*notes, *score_notes(evaluation, row)]),
    )
