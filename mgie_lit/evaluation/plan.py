"""An evaluation before, while and after it is run: checked, shared between processes, and written down."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.data.image_files import open_image
from mgie_lit.data.readers import shared_splits
from mgie_lit.errors import ConfigError, DataError
from mgie_lit.evaluation.files import write_whole
from mgie_lit.evaluation.grid import GRID_ROWS, GridRow, comparison_grid, spread
from mgie_lit.evaluation.intervals import Bootstrap
from mgie_lit.evaluation.journal import ATTRIBUTES, Journal, claim, forget, read_journal
from mgie_lit.evaluation.layouts import check_choices
from mgie_lit.evaluation.scoring import RESIZE_RULE, SOURCE_CAPTION
from mgie_lit.evaluation.share import SOURCE_DIR, TARGET_DIR, Work
from mgie_lit.evaluation.systems import ChecksSamples
from mgie_lit.evaluation.table import (
    make_table,
    means_by_turn,
    plain_means,
    spread_of_means,
    summarise,
    write_table,
)
from mgie_lit.evaluation.units import make_units

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.evaluation.systems import EditSystem
    from mgie_lit.metrics.base import SampleMetric

METRICS_FILE = "metrics.json"
TABLE_FILE = "per_sample.parquet"
ALL_TURNS_FILE = "all_turns.parquet"  # of chains, whose last turns alone are scored in TABLE_FILE
GRID_FILE = "grid.png"
_PUBLISHED_TURNS = {"given": "all_turn", "chain": "final_turn"}  # keys of MagicBrush's published evaluation


@dataclass(frozen=True)
class EvaluationPlan:
    """An evaluation before it is run: what every process of it agrees on."""

    work: Work
    sample_ids: Sequence[str]
    turns: str  # ``given`` or ``chain``
    protocol: Mapping[str, object]
    source: Mapping[str, object]
    bootstrap: Bootstrap

    @property
    def out_dir(self) -> Path:
        """Directory of the evaluation."""
        return self.work.out_dir

    @property
    def shared_splits(self) -> tuple[str, ...]:
        """Splits that are the same rows, the evaluated one among them; empty where it has rows of its own."""
        return shared_splits(self.work.dataset)

    def claim(self, *, resume: bool = False) -> None:
        """Take the directory, or make sure that the evaluation that goes on there is still the same.

        Args:
            resume: Go on where progress has been made.

        Raises:
            ConfigError: The directory holds an evaluation, or the one that was begun differs from this.
        """
        ids = hashlib.sha256("\n".join(self.sample_ids).encode()).hexdigest()
        settings = {"seeds": list(self.work.seeds), "turns": self.turns, "sample_ids_sha256": ids}
        claim(self.out_dir, {**settings, "protocol": self.protocol, "source": self.source}, resume=resume)

    def run_share(self, rank: int = 0, num_ranks: int = 1, *, progress: bool = False) -> None:
        """Work on one process's share of what is not done yet; no other process is waited for.

        Args:
            rank: Of this process, from 0.
            num_ranks: Number of processes.
            progress: Show a bar on stderr.

        Raises:
            ConfigError: Another process works on this share.
            DataError: An example or a prediction can not be read, or has no target.
        """
        done = read_journal(self.out_dir)
        with Journal(self.out_dir, rank) as journal:
            self.work.run(journal, done, rank=rank, num_ranks=num_ranks, progress=progress)

    def finish(self) -> dict[str, object]:
        """Write table and numbers from the rows of all processes, and drop the progress.

        Returns:
            What ``metrics.json`` holds.

        Raises:
            DataError: There is not one row a sample and seed.
        """
        names = list(self.work.metrics)
        position = {name: index for index, name in enumerate(self.sample_ids)}
        rows = sorted(read_journal(self.out_dir).values(), key=lambda row: position.get(row["sample_id"], -1))
        attributes = dict.fromkeys(name for row in rows for name in row.pop(ATTRIBUTES))
        attributes.pop(SOURCE_CAPTION, None)  # words, not a category
        every = make_table(rows, num_samples=len(self.sample_ids), seeds=self.work.seeds)
        table = self._final_turns(every) if self.turns == "chain" else every
        summary, intervals = summarise(table, names, attributes, self.bootstrap)
        by_turn = means_by_turn(every, names)
        measured = {
            "turns": self.turns,
            "shared_splits": list(self.shared_splits),
            "intervals": intervals,
            "seeds": list(self.work.seeds),
            "num_samples": table["sample_id"].nunique(),
            "num_rows": len(table),
            "num_without_edit": int(table["expressive_instruction"].isna().sum()),
        }
        result: dict[str, object] = {
            **summary,
            "spread": spread_of_means(table, names),
            "turns": {f"{_PUBLISHED_TURNS[self.turns]}": plain_means(table, names), **by_turn} if by_turn else {},
            "protocol": dict(self.protocol) | measured,
            "source": dict(self.source),
        }
        write_table(table, self.out_dir / TABLE_FILE)
        if self.turns == "chain":
            write_table(every, self.out_dir / ALL_TURNS_FILE)
        self._write_grid(table)
        text = json.dumps(result, indent=2, ensure_ascii=False, allow_nan=False, default=str)
        write_whole(self.out_dir / METRICS_FILE, lambda draft: draft.write_text(text + "\n", encoding="utf-8"))
        forget(self.out_dir)
        return result

    def _final_turns(self, table: pd.DataFrame) -> pd.DataFrame:
        last = {self.sample_ids[unit[-1]] for unit in self.work.units}
        return table[table["sample_id"].isin(last)].reset_index(drop=True)

    def _write_grid(self, table: pd.DataFrame) -> None:
        first = table[table["seed"] == self.work.seeds[0]]
        if not self.work.save_images:
            return
        rows = [
            _saved_grid_row(self.out_dir, dict(zip(first.columns, first.iloc[index], strict=True)))
            for index in spread(len(first), GRID_ROWS)
        ]
        write_whole(self.out_dir / GRID_FILE, comparison_grid(rows).save)


def plan_evaluation(
    system: EditSystem,
    dataset: EditDataset,
    metrics: Mapping[str, SampleMetric],
    *,
    out_dir: Path,
    seeds: Sequence[int] = (0,),
    batch_size: int = 16,
    turns: str = "given",
    protocol: Mapping[str, object] | None = None,
    source: Mapping[str, object] | None = None,
    save_images: bool = True,
    bootstrap: Bootstrap | None = None,
) -> EvaluationPlan:
    """Check all that can be known before the long part; nothing is written.

    Args:
        system: What is evaluated.
        dataset: Every example needs a target.
        metrics: Name in tables -> metric.
        out_dir: Made later if it is not there; must not hold an evaluation that is complete.
        seeds: Of the edits; all of them enter every mean.
        batch_size: Examples (or sessions) edited together.
        turns: ``given``: every sample is edited from its true source, and all are scored. ``chain``: each turn of a
            session is edited from the system's own output of the turn before; the last turn of each is scored, against
            its target, and ``copy`` is the session's first source.
        protocol: What else pins the numbers down (data set, split, sampling); plain values.
        source: Where the system comes from (checkpoint and its hash, folder of predictions); plain values.
        save_images: Write ``images/`` (the first seed; others in ``images/seed-<seed>/``), ``sources/``, ``targets/``
            and ``grid.png``.
        bootstrap: How intervals are drawn.

    Returns:
        The plan.

    Raises:
        ConfigError: ``out_dir`` holds an evaluation, or seeds, batch size, turns or metrics can not be used.
        DataError: Ids are not unique, sessions are not whole, or predictions are missing.
    """
    _check_settings(out_dir, seeds, batch_size, metrics)
    check_choices("ids", turns)
    if turns == "chain" and not save_images:
        raise ConfigError("save_images: expected true with turns=chain, whose next turn starts from a saved image")
    sample_ids = _checked_ids(dataset)
    units = make_units(dataset, turns)
    pinned = {name: metric.describe() for name, metric in metrics.items()}  # loads encoders before the long part
    if isinstance(system, ChecksSamples):
        system.check(sample_ids)
    return EvaluationPlan(
        work=Work(system, dataset, metrics, units, out_dir, seeds, batch_size, save_images),
        sample_ids=sample_ids,
        turns=turns,
        protocol=dict(protocol or {}) | {"metrics": pinned, "resize": RESIZE_RULE},
        source=dict(source or {}),
        bootstrap=bootstrap or Bootstrap(),
    )


def _saved_grid_row(out_dir: Path, row: Mapping[str, object]) -> GridRow:
    name, path = f"{row['sample_id']}.png", row["image_path"]
    return GridRow(
        source=open_image(out_dir / SOURCE_DIR / name),
        edited=open_image(out_dir / path) if isinstance(path, str) else None,
        target=open_image(out_dir / TARGET_DIR / name),
        instruction=str(row["instruction"]),
        expressive_instruction=str(row["expressive_instruction"] or ""),
    )


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
        raise ConfigError(
            "metrics: expected at least one metric, got none; e.g. metrics=pixel (mgie_paper has none for other data "
            "than evr, gier, ma5k and magicbrush)"
        )


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
