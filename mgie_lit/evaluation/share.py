"""The part of an evaluation that one process works on: edit, score, record; no other process is waited for."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import track

from mgie_lit.data.image_files import open_image
from mgie_lit.errors import DataError
from mgie_lit.evaluation.journal import ATTRIBUTES
from mgie_lit.evaluation.scoring import Scorer
from mgie_lit.evaluation.table import make_row
from mgie_lit.types import EditedImage

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.evaluation.journal import Done, Journal
    from mgie_lit.evaluation.scoring import ScoredEdit
    from mgie_lit.evaluation.systems import EditSystem
    from mgie_lit.evaluation.units import Unit
    from mgie_lit.metrics.base import SampleMetric
    from mgie_lit.types import EditExample

IMAGE_DIR, SOURCE_DIR, TARGET_DIR = "images", "sources", "targets"
_QUICK = 1  # compression of PNG: a fifth larger, several times faster to write


@dataclass(frozen=True)
class Work:
    """All that a process needs for its share."""

    system: EditSystem
    dataset: EditDataset
    metrics: Mapping[str, SampleMetric]
    units: Sequence[Unit]
    out_dir: Path
    seeds: Sequence[int]
    batch_size: int
    save_images: bool = True

    def run(self, journal: Journal, done: Done, *, rank: int = 0, num_ranks: int = 1, progress: bool = False) -> None:
        """Work on every ``num_ranks``-th batch of units; what is done already is left out.

        The batches are the same for any number of processes, and so are the numbers.

        Args:
            journal: Takes the rows.
            done: Rows that are there.
            rank: Of this process, from 0.
            num_ranks: Number of processes.
            progress: Show a bar on stderr.
        """
        batches = [self.units[first : first + self.batch_size] for first in range(0, len(self.units), self.batch_size)]
        mine = batches[rank::num_ranks]
        scorer = Scorer(self.metrics)
        for batch in track(mine, "evaluating", console=Console(stderr=True), disable=not progress):
            self._run_batch(batch, scorer, journal, done)

    def _run_batch(self, batch: Sequence[Unit], scorer: Scorer, journal: Journal, done: Done) -> None:
        names = {index: self.dataset.sample_id(index) for unit in batch for index in unit}
        if all((name, seed) in done for name in names.values() for seed in self.seeds):
            return
        first = {unit[0]: self.dataset[unit[0]] for unit in batch}
        before: dict[tuple[int, int], EditedImage | None] = {}  # unit's first index, seed -> edit of the turn before
        for turn in range(max(map(len, batch))):
            active = [unit for unit in batch if len(unit) > turn]
            examples = [
                first[unit[0]] if turn == 0 else replace(self.dataset[unit[turn]], source=first[unit[0]].source)
                for unit in active
            ]
            for unit, example in zip(active, examples, strict=True):
                _check_id(example, names[unit[turn]], unit[turn])
            missing = any((example.sample_id, seed) not in done for example in examples for seed in self.seeds)
            copies = scorer.copies(examples) if missing else []
            for seed in self.seeds:
                sources = [before.get((unit[0], seed)) for unit in active]
                edits = self._edit(examples, sources, [len(unit) > turn + 1 for unit in active], seed, done)
                fresh = [index for index, one in enumerate(examples) if (one.sample_id, seed) not in done]
                scored = scorer.edits(
                    [examples[index] for index in fresh],
                    [edits[index] for index in fresh],
                    [copies[index] for index in fresh],
                    seed=seed,
                )
                for edit in scored:
                    journal.add(make_row(edit, self._save(edit)) | {ATTRIBUTES: list(edit.example.attributes)})
                before |= {(unit[0], seed): edit for unit, edit in zip(active, edits, strict=True)}

    def _edit(
        self,
        examples: Sequence[EditExample],
        before: Sequence[EditedImage | None],
        goes_on: Sequence[bool],
        seed: int,
        done: Done,
    ) -> list[EditedImage | None]:
        """Edits of one turn; later turns start from the edit before, which comes from its file where it is done."""
        edits: list[EditedImage | None] = [None] * len(examples)
        todo: dict[int, EditExample] = {}
        for index, (example, last) in enumerate(zip(examples, before, strict=True)):
            row = done.get((example.sample_id, seed))
            if row is None:
                todo[index] = example if last is None else replace(example, source=last.image)
            elif row["image_path"] and goes_on[index]:
                edits[index] = EditedImage(open_image(self.out_dir / row["image_path"]), row["expressive_instruction"])
        made = self.system(list(todo.values()), seed=seed) if todo else []
        if len(made) != len(todo):
            raise ValueError(f"system: expected {len(todo)} edited images, one an example, got {len(made)}")
        for index, edit in zip(todo, made, strict=True):
            edits[index] = edit
        return edits

    def _save(self, edit: ScoredEdit) -> str | None:
        """Write the images of a scored edit; gives the edited one's path relative to ``out_dir``."""
        if not self.save_images:
            return None
        first = edit.seed == self.seeds[0]
        if first:
            for folder, image in ((SOURCE_DIR, edit.example.source), (TARGET_DIR, edit.example.target)):
                if image is not None:
                    path = self.out_dir / folder / f"{edit.example.sample_id}.png"
                    path.parent.mkdir(exist_ok=True)
                    image.save(path, compress_level=_QUICK)
        if edit.edited is None:
            return None
        folder = IMAGE_DIR if first else f"{IMAGE_DIR}/seed-{edit.seed}"
        path = self.out_dir / folder / f"{edit.example.sample_id}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        edit.edited.image.save(path, compress_level=_QUICK)
        return path.relative_to(self.out_dir).as_posix()


def _check_id(example: EditExample, name: str, index: int) -> None:
    if example.sample_id != name:
        raise DataError(
            f"data: expected the example at index {index} to have the id {name}, got {example.sample_id}; the data set "
            "must give every index once and every id once"
        )
