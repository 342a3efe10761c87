"""Edits and scores a few validation examples whenever the trainer validates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning
import pandas as pd
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from mgie_lit.checkpoints.disk import full_disk_named
from mgie_lit.data.datamodule import EditDataModule
from mgie_lit.evaluation.evaluate import InMemoryScores, grid_row, score_in_memory
from mgie_lit.evaluation.files import write_whole
from mgie_lit.evaluation.grid import GridRow, comparison_grid, spread
from mgie_lit.evaluation.systems import EditorSystem, EditSystem
from mgie_lit.metrics.base import SampleMetric
from mgie_lit.sampling.edit import SamplingOptions
from mgie_lit.training.gathering import gather
from mgie_lit.training.module import EditModule


@runtime_checkable
class TakesEdits(Protocol):
    """A logger that shows edits."""

    def log_edits(self, rows: Sequence[GridRow], grid: Image.Image, step: int) -> None:
        """Show examples and the grid made of them, after ``step`` optimizer steps."""
        ...


class EvaluateEdits(lightning.Callback):
    """Logs ``val/<metric>`` (and ``val/copy_<metric>``) and writes a grid of pictures, ``images/step-<step>.png``.

    Args:
        metrics: Name -> metric.
        options: Steps, scales, resolution.
        run_dir: Where ``images/`` goes.
        num_examples: Validation examples that are edited, from the first.
        num_images: Of them in the grid; 0 = no grid.
        batch_size: Examples edited together.
    """

    def __init__(
        self,
        metrics: Mapping[str, SampleMetric],
        options: SamplingOptions,
        run_dir: str | Path,
        *,
        num_examples: int,
        num_images: int,
        batch_size: int = 16,
    ) -> None:
        self.metrics = dict(metrics)
        self.options = options
        self.image_dir = Path(run_dir) / "images"
        self.num_examples = num_examples
        self.num_images = num_images
        self.batch_size = batch_size

    def on_validation_epoch_end(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:
        """Edit, score, log; the trainer has put the model in eval mode and puts it back."""
        assert isinstance(pl_module, EditModule)
        datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(datamodule, EditDataModule)
        lowers = pl_module.compute.lowers(trainer.precision) and pl_module.left_out
        with trainer.precision_plugin.forward_context() if lowers else nullcontext():  # frozen parts can do no other
            scores, pictures = self._score(EditorSystem(pl_module.editor, self.options), datamodule)
        means = scores.means() | {f"copy_{name}": value for name, value in scores.copy_means().items()}
        pl_module.log_dict({f"val/{name}": value for name, value in means.items() if value is not None})
        if pictures:
            self._show(trainer, pictures)

    def _score(self, system: EditSystem, datamodule: EditDataModule) -> tuple[InMemoryScores, list[GridRow]]:
        """Scores of all examples, and some pictures: each process edits its share, then all tell each other."""
        dataset = datamodule.dataset("val")
        count = min(self.num_examples, len(dataset))
        share = datamodule.share_of_batches(count, self.batch_size)
        examples = [dataset[index] for index in share]
        own = score_in_memory(system, examples, self.metrics, batch_size=self.batch_size)
        shown = spread(count, self.num_images)
        rows = dict(zip(share, own.table.to_dict("records"), strict=True))
        pictures = {index: grid_row(edit) for index, edit in zip(share, own.edits, strict=True) if index in shown}
        for other_rows, other_pictures in gather((rows, pictures)):
            rows |= other_rows
            pictures |= other_pictures
        table = pd.DataFrame([rows[index] for index in range(count)])
        return replace(own, table=table, edits=[]), [pictures[index] for index in shown]

    @rank_zero_only
    def _show(self, trainer: lightning.Trainer, rows: Sequence[GridRow]) -> None:
        """Write the grid, and hand it to loggers that take edits."""
        grid = comparison_grid(rows)
        self.image_dir.mkdir(parents=True, exist_ok=True)
        path = self.image_dir / f"step-{trainer.global_step:08d}.png"
        with full_disk_named(path):
            write_whole(path, grid.save)
        for logger in trainer.loggers:
            if isinstance(logger, TakesEdits):
                logger.log_edits(rows, grid, trainer.global_step)
