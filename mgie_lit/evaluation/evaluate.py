"""One evaluation: from a system and a data set to a folder with table, numbers and images; or in memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from mgie_lit.evaluation.grid import GridRow
from mgie_lit.evaluation.plan import plan_evaluation
from mgie_lit.evaluation.scoring import ScoredEdit, score_edits
from mgie_lit.evaluation.table import COPY_PREFIX, make_row, make_table, plain_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pandas as pd

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.evaluation.intervals import Bootstrap
    from mgie_lit.evaluation.systems import EditSystem
    from mgie_lit.metrics.base import SampleMetric
    from mgie_lit.types import EditExample


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
    turns: str = "given",
    protocol: Mapping[str, object] | None = None,
    source: Mapping[str, object] | None = None,
    progress: bool = False,
    save_images: bool = True,
    bootstrap: Bootstrap | None = None,
    resume: bool = False,
) -> dict[str, object]:
    """Run a system over a whole data set and write ``metrics.json``, ``per_sample.parquet``, images and a grid.

    Args:
        system: As in :func:`plan_evaluation`, and so are the others but for two.
        dataset: As there.
        metrics: As there.
        out_dir: As there.
        seeds: As there.
        batch_size: As there.
        turns: As there.
        protocol: As there.
        source: As there.
        progress: Show a bar on stderr.
        save_images: As there.
        bootstrap: As there.
        resume: Go on with an evaluation that was interrupted in ``out_dir``.

    Returns:
        What ``metrics.json`` holds.

    Raises:
        ConfigError: As there, or the evaluation that was interrupted is another one.
        DataError: As there, or rows are not one a sample and seed.
    """
    plan = plan_evaluation(
        system,
        dataset,
        metrics,
        out_dir=out_dir,
        seeds=seeds,
        batch_size=batch_size,
        turns=turns,
        protocol=protocol,
        source=source,
        save_images=save_images,
        bootstrap=bootstrap,
    )
    plan.claim(resume=resume)
    plan.run_share(progress=progress)
    return plan.finish()


def grid_row(edit: ScoredEdit) -> GridRow:
    """A scored edit as a row of :func:`comparison_grid`."""
    return GridRow(
        source=edit.example.source,
        edited=edit.edited.image if edit.edited else None,
        target=edit.example.target,
        instruction=edit.example.instruction,
        expressive_instruction=edit.edited.expressive_instruction if edit.edited else "",
    )
