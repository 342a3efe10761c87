"""A training in wandb: one run from first start to last resume. The CSV is the truth, an outage a warning."""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
from argparse import Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from mgie_lit.evaluation.wandb_media import outage_is_a_warning, staged_in, table
from mgie_lit.training.csv_logger import FILE_NAME

if TYPE_CHECKING:
    import wandb
    from PIL import Image

    from mgie_lit.evaluation.grid import GridRow

STEP, SEGMENT = "trainer/global_step", "trainer/segment"  # columns of every row
GRID, SAMPLES = "val/edits", "val/samples"
VERSIONS_FILE = "versions.json"  # of the run directory
_ONLINE, _OFFLINE = "online", "offline"
_HASH_LENGTH = 8


class WandbLogger(Logger):
    """Logs what ``metrics.csv`` gets, and tables of edits, into one run of wandb.

    A run that is resumed goes on under its id. What an interrupted process logged after its last checkpoint can not be
    taken back from wandb, and the resumed process logs those steps again: every row has ``trainer/segment``, which
    counts the starts from 0, and of two rows of one step that of the later segment is right. wandb's own counter never
    goes back, so that no row is dropped or written over. At the end ``metrics.csv``, which has no such rows, is added.

    Nothing of wandb ends a training: where a run can not be streamed it is kept offline, and where that fails too, or
    the package is missing, a warning says so.

    Args:
        project: Of wandb.
        save_dir: The run's directory; ``wandb/`` is made in it.
        offline: Keep the run for ``wandb sync``; False = stream. ``WANDB_MODE`` in the environment goes before it.
        settings: Of wandb, e.g. ``init_timeout``.
        run_id: Of the run that goes on; None = made from ``save_dir``.
        name: Shown; None = the directory's.
        job_type: Shown.
        entity: User or team; None = wandb's default.
        group: Shown; None = none.
        tags: Shown.
    """

    def __init__(
        self,
        project: str,
        save_dir: str | Path,
        *,
        offline: bool = True,
        settings: Mapping[str, Any] | None = None,
        run_id: str | None = None,
        name: str | None = None,
        job_type: str = "train",
        entity: str | None = None,
        group: str | None = None,
        tags: Sequence[str] = (),
    ) -> None:
        super().__init__()
        self.run_dir = Path(save_dir)
        self.offline = offline
        self.settings = dict(settings or {})
        self._id = run_id or derived_id(self.run_dir)
        self._shown = {"project": project, "entity": entity, "group": group, "job_type": job_type, "tags": list(tags)}
        self._shown["name"] = name or self.run_dir.absolute().name
        self._config: dict[str, Any] = {}
        self._run: wandb.Run | None = None
        self._is_over = False  # finished, or wandb is not to be had
        self._next_row = 0
        self._segment = 0

    @property
    def name(self) -> str:
        """Kind of logger, for Lightning and checkpoints."""
        return "wandb"

    @property
    def version(self) -> str:
        """Id of the run, the same on all processes and after a resume."""
        return self._id

    def open(self, mode: str | None = None) -> wandb.Run:
        """Start wandb's run.

        Args:
            mode: ``online`` or ``offline``; None = as the logger's.

        Returns:
            The run, not kept here: whoever opens it finishes it.

        Raises:
            Exception: Whatever wandb raises where it is missing or there is no server.
        """
        import wandb

        mode = mode or self._mode()
        versions = self.run_dir / VERSIONS_FILE
        recorded = json.loads(versions.read_text(encoding="utf-8")) if versions.is_file() else {}
        run = wandb.init(
            dir=str(self.run_dir),
            id=self._id,
            resume="allow" if mode == _ONLINE else None,
            mode=mode,  # type: ignore[arg-type]
            reinit="create_new",
            config=self._config | {"versions": recorded},
            settings=wandb.Settings(**self.settings),
            **self._shown,  # type: ignore[arg-type]
        )
        run.define_metric(STEP)
        run.define_metric("*", step_metric=STEP, step_sync=True)
        return run

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        """Show these as the run's config, from its start on."""
        self._config |= vars(params) if isinstance(params, Namespace) else params

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Log a row."""
        self._log(dict(metrics), step)

    @rank_zero_only
    def log_edits(self, rows: Sequence[GridRow], grid: Image.Image, step: int) -> None:
        """Log edited validation examples: a table with pictures and words, and the grid.

        Args:
            rows: An example each.
            grid: Of the same.
            step: Optimizer steps so far.
        """
        if self._is_over:
            return
        with outage_is_a_warning("a table of edits"):
            import wandb

            words = pd.DataFrame(
                {
                    "instruction": [row.instruction for row in rows],
                    "expressive_instruction": [row.expressive_instruction for row in rows],
                }
            )
            pictures = {name: [getattr(row, name) for row in rows] for name in ("source", "edited", "target")}
            self._log({SAMPLES: table(words, pictures), GRID: wandb.Image(grid)}, step)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Hand over the CSV and finish the run, with the exit status that this process will have."""
        run, self._run, self._is_over = self._run, None, True
        if run is None:
            return
        exit_code = 0 if status == "success" else _exit_code()
        csv = self.run_dir / FILE_NAME
        if csv.is_file():
            with outage_is_a_warning(FILE_NAME):
                run.save(str(csv), base_path=str(self.run_dir), policy="now")
        with outage_is_a_warning("the end of the run"):
            run.finish(exit_code=exit_code)

    def _log(self, values: dict[str, Any], step: int | None) -> None:
        run = None if self._is_over else self._started()
        if run is None:
            return
        row = values | {STEP: step, SEGMENT: self._segment}
        self._is_over = True  # unless it goes well
        with outage_is_a_warning(f"step {step}, and what comes after it,"), staged_in(self.run_dir):
            run.log(row, step=self._next_row, commit=True)
            self._next_row += 1
            self._is_over = False

    def _started(self) -> wandb.Run | None:
        """The run, opened when it is first needed; None where that is not possible."""
        if self._run is not None:
            return self._run
        earlier = segments(self.run_dir)
        self._segment = len(earlier)
        mode = self._mode()
        live = "the training as it goes (it is kept for `wandb sync`)"
        for tried in dict.fromkeys((mode, _OFFLINE) if mode == _ONLINE else (mode,)):
            if self._run is None:
                if tried != mode:
                    _forget_failed_start()
                with outage_is_a_warning(live if mode == _ONLINE else "the training"), staged_in(self.run_dir):
                    self._run = self.open(tried)
        self._is_over = self._run is None
        if self._run is not None:
            # A row takes more than a byte in its file, so earlier segments have fewer rows than this.
            self._next_row = max(self._run.step, sum(file.stat().st_size for file in earlier))
        return self._run

    def _mode(self) -> str:
        return os.environ.get("WANDB_MODE", "").lower() or (_OFFLINE if self.offline else _ONLINE)


def derived_id(run_dir: Path) -> str:
    """Id of a run in wandb: its directory's name, and a hash of machine and whole path, as names come twice.

    Args:
        run_dir: The run's directory.

    Returns:
        Letters, digits, dashes; the same at every call.
    """
    path = run_dir.resolve()
    digest = hashlib.sha256(f"{socket.gethostname()}:{path}".encode()).hexdigest()[:_HASH_LENGTH]
    name = re.sub(r"[^A-Za-z0-9]+", "-", path.name).strip("-")
    return f"{name}-{digest}" if name else digest


def segments(run_dir: Path) -> list[Path]:
    """Files of wandb's records below a run's directory, one a start, the first one first."""
    return sorted(
        (run_dir / "wandb").glob("*run-*/run-*.wandb"), key=lambda file: file.parent.name.partition("run-")[2]
    )


def _forget_failed_start() -> None:
    """Make the service let go of the id of a run that it could not open."""
    if wandb := sys.modules.get("wandb"):
        with outage_is_a_warning("a second try"):
            wandb.teardown()


def _exit_code() -> int:
    error = sys.exc_info()[1]
    return error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1
