"""``mgie eval``: a Hydra app over ``conf/eval.yaml``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mgie_lit.cli.help_text import HELP_FLAGS, overrides_help

if TYPE_CHECKING:
    from pathlib import Path

    from omegaconf import DictConfig

HELP = """\
usage: mgie eval checkpoint=RUN|CKPT|EXPORT [OVERRIDES] [FLAGS]
       mgie eval predictions=FOLDER data=... [OVERRIDES] [FLAGS]

Measure a system on a data set (conf/eval.yaml), beside what copying the source would give. `checkpoint` is a run
directory, a .ckpt file, an export folder, or `tiny`; `predictions` a folder of <sample_id>.png made by any system.
The evaluation gets its own directory, runs/eval/<time>, which is printed last, below a table of the scores.

examples:
  mgie eval checkpoint=runs/train/<time>
  mgie eval checkpoint=tiny data=photo_edits data.root=my_photos
  mgie eval predictions=outputs data=photo_edits_mixed metrics=pixel
  mgie eval predictions=outputs data=magicbrush data.root=MagicBrush predictions_layout=magicbrush turns=chain
  mgie eval checkpoint=RUN num_seeds=5 num_processes=2
  mgie eval resume=runs/eval/<time>     # go on with one that was interrupted
"""


def run(argv: list[str]) -> None:
    """Evaluate as ``argv``, overrides and Hydra's flags, says."""
    if HELP_FLAGS & set(argv):
        sys.stdout.write(overrides_help(HELP))
        return
    from mgie_lit.cli.hydra_app import run_hydra

    run_hydra("eval", argv, _evaluate, unused={"size"}, can_resume=_can_resume)


def _evaluate(config: DictConfig) -> None:
    from mgie_lit.config.run import evaluate_run
    from mgie_lit.evaluation.plan import METRICS_FILE
    from mgie_lit.trials import TRIAL_FILE

    out_dir = evaluate_run(config)
    if (out_dir / METRICS_FILE).is_file() and not (out_dir / TRIAL_FILE).is_file():  # a sweep has a table of all
        _print_scores(out_dir)
    print(out_dir, flush=True)


def _print_scores(out_dir: Path) -> None:
    from mgie_lit.cli.sweep.table import as_text
    from mgie_lit.report.read import read_directories
    from mgie_lit.report.tables import score_table

    _, (evaluation,) = read_directories([out_dir])
    print(as_text(score_table(evaluation)))


def _can_resume(run_dir: Path) -> bool:
    """Whether a directory holds an evaluation that has scored something and is not complete."""
    from mgie_lit.config.runs import is_recorded
    from mgie_lit.evaluation.journal import PROGRESS_DIR
    from mgie_lit.evaluation.plan import METRICS_FILE

    return is_recorded(run_dir) and (run_dir / PROGRESS_DIR).is_dir() and not (run_dir / METRICS_FILE).exists()
