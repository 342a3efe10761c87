"""A report for wandb: the page and its tables, in a run of their own beside it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mgie_lit.evaluation.wandb_media import hand_over, table

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import pandas as pd
    import wandb

INIT_TIMEOUT, FINISH_TIMEOUT = 60, 600  # seconds, as of conf/logger/wandb.yaml


def show_report(output: Path, frames: Mapping[str, pd.DataFrame], *, project: str) -> None:
    """Hand a finished report to wandb; an outage is a warning.

    Args:
        output: The page; ``wandb/`` beside it holds the run. Offline unless ``WANDB_MODE`` says otherwise.
        frames: Its tables by name.
        project: Of wandb.
    """
    folder = output.absolute().parent

    def open_run() -> wandb.Run:
        import wandb

        return wandb.init(
            project=project,
            name=output.stem,
            job_type="report",
            dir=str(folder),
            mode=None if "WANDB_MODE" in os.environ else "offline",
            settings=wandb.Settings(init_timeout=INIT_TIMEOUT, finish_timeout=FINISH_TIMEOUT),
        )

    def log(run: wandb.Run) -> None:
        import wandb

        shown = {f"report/{name}": table(frame) for name, frame in frames.items()}
        run.log({**shown, "report/page": wandb.Html(str(output))})

    hand_over(f"the report {output}", folder, open_run, log)
