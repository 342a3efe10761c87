"""One evaluation: from a system and a data set to a folder with table, numbers and images; or in memory."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.evaluation.files import write_whole
from mgie_lit.evaluation.grid import GridRow, comparison_grid
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.scoring import RESIZE_RULE, ScoredEdit, score_edits
from mgie_lit.evaluation.systems import ChecksSamples
from mgie_lit.evaluation.table import COPY_PREFIX, make_row, make_table, plain_mean, summarise, write_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.evaluation.systems import EditSystem
    from mgie_lit.metrics.base import SampleMetric
    from mgie_lit.types import EditExample

METRICS_FILE = "metrics.json"
TABLE_FILE = "per_sample.parquet"
GRID_FILE = "grid.png"
IMAGE_DIR = "images"
SOURCE_DIR, TARGET_DIR = "sources", "targets"
GRID_ROWS = 8


@dataclass(frozen=True)
class InMemoryScores:
    """What :func:`score_in_memory` gives."""

    table: pd.DataFrame  # as per_sample.parquet, without image paths
    edits: list[ScoredEdit]  # in the order of the examples
    metric_names: tuple[str, ...]

    def means(self) -> dict[str, float | None]:
        """Mean of each metric; None where it applies to no sample."""
        return {name: plain_mean(self.table[name].to_numpy(float)) for name in self.metric_names}

    def copy_means(self) -> dict[str, float | None]:
        """Mean of each image metric for the source images."""
        columns = {name: COPY_PREFIX + name for name in self.metric_names if COPY_PREFIX + name in self.table}
        return {name: plain_mean(self.table[column].to_numpy(float)) for name, column in columns.items()}

    def grid_rows(self, count: int = GRID_ROWS) -> list[GridRow]:
        """Up to ``count`` examples, spread evenly, for :func:`comparison_grid`."""
        return [grid_row(self.edits[index]) for index in spread(len(self.edits), count)]


def score_in_memory(
    system: EditSystem,
    examples: Sequence[EditExample],
    metrics: Mapping[str, SampleMetric],
    *,
    seed: int = 0,
    batch_size: int = 16,
) -> InMemoryScores:
    """Edit and score a few examples as :func:`evaluate` does, without files; no collective is called.

    Args:
        system: What is evaluated.
        examples: With targets, at least one.
        metrics: Name in tables -> metric.
        seed: Of the edits.
        batch_size: Examples edited together.

    Returns:
        Scores, edits and their means; the metrics' own state stays as it is.

    Raises:
        DataError: There are no examples, one has no target, or two have one id.
    """
    batches = (examples[first : first + batch_size] for first in range(0, len(examples), batch_size))
    edits = list(score_edits(system, batches, metrics, seeds=(seed,)))
    table = make_table([make_row(edit, None) for edit in edits], num_samples=len(examples), seeds=(seed,))
    return InMemoryScores(table, edits, tuple(metrics))


def evaluate(
    system: EditSystem,
    dataset: EditDataset,
    metrics: Mapping[str, SampleMetric],
    *,
    out_dir: Path,
    seeds: Sequence[int] = (0,),
    batch_size: int = 16,
    protocol: Mapping[str, object] | None = None,
    source: Mapping[str, object] | None = None,
    progress: bool = False,
    save_images: bool = True,
    bootstrap: Bootstrap | None = None,
) -> dict[str, object]:
    """Run a system over a whole data set and write ``metrics.json``, ``per_sample.parquet``, images and a grid.

    Args:
        system: What is evaluated.
        dataset: Every example needs a target.
        metrics: Name in tables -> metric.
        out_dir: Made if it is not there; must not hold an evaluation yet.
        seeds: Of the edits; all of them enter every mean.
        batch_size: Examples edited together.
        protocol: What else pins the numbers down (data set, split, sampling); plain values.
        source: Where the system comes from (checkpoint and its hash, folder of predictions); plain values.
        progress: Show a bar on stderr.
        save_images: Write ``images/`` (the first seed; others in ``images/seed-<seed>/``) and ``grid.png``.
        bootstrap: How intervals are drawn.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: ``out_dir`` holds an evaluation, or seeds, batch size or metrics can not be used.
        DataError: Ids are not unique, targets or predictions are missing, or rows are not one a sample and seed.
    """
    _check_settings(out_dir, seeds, batch_size, metrics)
    sample_ids = _checked_ids(dataset)
    pinned = {name: metric.describe() for name, metric in metrics.items()}  # loads encoders before the long part
    if isinstance(system, ChecksSamples):
        system.check(sample_ids)
    out_dir.mkdir(parents=True, exist_ok=True)

    shown = {sample_ids[index] for index in spread(len(sample_ids), GRID_ROWS)} if save_images else set()
    rows: list[dict[str, object]] = []
    grid_rows: list[GridRow] = []
    attributes: dict[str, None] = {}  # in the order in which they appear
    for edit in score_edits(system, _batches(dataset, batch_size, progress=progress), metrics, seeds=seeds):
        path = _save_image(edit, out_dir, first=edit.seed == seeds[0]) if save_images else None
        if save_images and edit.seed == seeds[0]:
            _save_inputs(edit.example, out_dir)
        rows.append(make_row(edit, path))
        attributes |= dict.fromkeys(edit.example.attributes)
        if edit.seed == seeds[0] and edit.example.sample_id in shown:
            grid_rows.append(grid_row(edit))

    table = make_table(rows, num_samples=len(dataset), seeds=seeds)
    summary, intervals = summarise(table, list(metrics), attributes, bootstrap or Bootstrap())
    measured = {
        "metrics": pinned,
        "resize": RESIZE_RULE,
        "intervals": intervals,
        "seeds": list(seeds),
        "num_samples": len(dataset),
        "num_rows": len(table),
        "num_without_edit": int(table["expressive_instruction"].isna().sum()),
    }
    result: dict[str, object] = {
        **summary,
        "protocol": dict(protocol or {}) | measured,
        "source": dict(source or {}),
    }
    write_table(table, out_dir / TABLE_FILE)
    if grid_rows:
        write_whole(out_dir / GRID_FILE, comparison_grid(grid_rows).save)
    text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False, default=str)
    write_whole(out_dir / METRICS_FILE, lambda draft: draft.write_text(text + "\n", encoding="utf-8"))
    return result


def grid_row(edit: ScoredEdit) -> GridRow:
    """A scored edit as a row of :func:`comparison_grid`."""
    return GridRow(
        source=edit.example.source,
        edited=edit.edited.image if edit.edited else None,
        target=edit.example.target,
        instruction=edit.example.instruction,
        expressive_instruction=edit.edited.expressive_instruction if edit.edited else "",
    )


def spread(length: int, count: int) -> list[int]:
    """Up to ``count`` indices below ``length``, in order: always the same draw, without a period of its own.

    Neighbours in a data set are often alike, and so are every tenth ones where ten edits take turns.

    >>> spread(400, 4), spread(2, 3)
    ([20, 197, 215, 388], [0, 1])
    """
    return sorted(random.Random(0).sample(range(length), min(length, count)))


def _batches(dataset: EditDataset, batch_size: int, *, progress: bool) -> Iterator[list[EditExample]]:
    starts = range(0, len(dataset), batch_size)
    for first in track(starts, "evaluating", console=Console(stderr=True), disable=not progress):
        yield [dataset[index] for index in range(first, min(first + batch_size, len(dataset)))]


def _save_image(edit: ScoredEdit, out_dir: Path, *, first: bool) -> str | None:
    """Write the edited image; gives its path relative to ``out_dir``."""
    if edit.edited is None:
        return None
    folder = IMAGE_DIR if first else f"{IMAGE_DIR}/seed-{edit.seed}"
    path = out_dir / folder / f"{edit.example.sample_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    edit.edited.image.save(path)
    return path.relative_to(out_dir).as_posix()


def _save_inputs(example: EditExample, out_dir: Path) -> None:
    """Write source and target beside the edited image, so that a report needs no data set."""
    for folder, image in ((SOURCE_DIR, example.source), (TARGET_DIR, example.target)):
        if image is not None:
            (out_dir / folder).mkdir(exist_ok=True)
            image.save(out_dir / folder / f"{example.sample_id}.png")


def _check_settings(out_dir: Path, seeds: Sequence[int], batch_size: int, metrics: Mapping[str, SampleMetric]) -> None:
    if (out_dir / METRICS_FILE).exists():
        raise ConfigError(
            f"paths.run_dir: expected a folder without an evaluation, got {out_dir}, which holds {METRICS_FILE}; "
            "name another folder or remove this one"
        )
    if not seeds or len(set(seeds)) != len(seeds):
        raise ConfigError(f"seeds: expected at least one seed and each once, got {list(seeds)}; leave repeats out")
    if batch_size < 1:
        raise ConfigError(f"batch_size: expected at least 1, got {batch_size}")
    if not metrics:
        raise ConfigError("metrics: expected at least one metric, got none; e.g. metrics=pixel")


def _checked_ids(dataset: EditDataset) -> list[str]:
    if not len(dataset):
        raise DataError("data: expected at least one sample to evaluate, got none; check split and limits")
    seen: dict[str, int] = {}
    for index in range(len(dataset)):
        name = dataset.sample_id(index)
        if not name or name in {".", ".."} or set(name) & set("/\\\0"):
            raise DataError(f"data: expected an id that is safe as a file name in row {index}, got {name!r}; rename it")
        if name in seen:
            raise DataError(f"data: expected unique ids, got {name} in rows {seen[name]} and {index}; rename one")
        seen[name] = index
    return list(seen)
