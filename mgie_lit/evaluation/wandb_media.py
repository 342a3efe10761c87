"""Tables and pictures as wandb shows them. A run's files are the truth: what fails here is a warning, never an end."""

from __future__ import annotations

import logging
import math
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    import wandb
    from PIL import Image

LOG = logging.getLogger(__name__)
MAX_SIDE = 512  # pixels of a picture; larger ones are reduced
_DATA_DIR = "WANDB_DATA_DIR"


@contextmanager
def outage_is_a_warning(what: str) -> Iterator[None]:
    """Whatever wandb raises inside becomes a warning; interrupts pass.

    Args:
        what: Is handed over, for the warning.
    """
    try:
        yield
    except Exception as error:  # wandb has errors of its own, of its server and of the network
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        LOG.warning(
            "wandb: %s could not be handed over (%s); the files in the run directory are complete", what, reason
        )


@contextmanager
def staged_in(folder: Path) -> Iterator[None]:
    """Let tables and their pictures wait below ``folder``, and not in the home directory, until they are uploaded.

    Where the user has set ``WANDB_DATA_DIR``, that stays.

    Args:
        folder: Directory of the run; an offline run can be synchronised as long as it lies there.
    """
    if _DATA_DIR in os.environ:
        yield
        return
    os.environ[_DATA_DIR] = str((folder / "wandb").absolute())
    try:
        yield
    finally:
        os.environ.pop(_DATA_DIR, None)


def picture(image: Image.Image, caption: str = "") -> wandb.Image:
    """An image for wandb, at most 512 pixels wide and high."""
    import wandb

    small = image.copy()
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    return wandb.Image(small, caption=caption or None)


def table(frame: pd.DataFrame, pictures: Mapping[str, Sequence[Image.Image | None]] | None = None) -> wandb.Table:
    """A table for wandb: columns of pictures in front, then numbers and words.

    Args:
        frame: A row a line; what is NaN becomes empty.
        pictures: Column -> a picture a row of ``frame``, None where there is none.

    Returns:
        To be logged under any key.
    """
    import wandb

    shown = {name: [image and picture(image) for image in column] for name, column in (pictures or {}).items()}
    columns = [*shown.values(), *(_column(frame[name]) for name in frame.columns)]
    rows: list[Iterable[Any]] = [list(row) for row in zip(*columns, strict=True)]
    return wandb.Table(columns=[*shown, *map(str, frame.columns)], data=rows)


def hand_over(what: str, folder: Path, open_run: Callable[[], wandb.Run], log: Callable[[wandb.Run], None]) -> None:
    """Log something in a run of its own, which is finished here.

    Args:
        what: Is handed over, for the warning where wandb fails.
        folder: Where the run is stored.
        open_run: Starts it.
        log: Logs into it.
    """
    import wandb

    with outage_is_a_warning(what), staged_in(folder):
        run = open_run()
        try:
            log(run)
        finally:
            run.finish()
    with outage_is_a_warning("the end of a run"):
        wandb.teardown()  # a run that could not be opened would have its last words when the process ends


def _column(values: pd.Series) -> list[Any]:
    """Plain cells of one kind, as wandb asks for: where numbers and words are mixed, all of them are words."""
    cells = [_plain(value) for value in values]
    kinds = {float if isinstance(cell, int | float) else type(cell) for cell in cells if cell is not None}
    return cells if len(kinds) < 2 else [None if cell is None else str(cell) for cell in cells]


def _plain(value: Any) -> Any:  # noqa: ANN401 - a cell of any column
    value = value.item() if hasattr(value, "item") else value
    return None if isinstance(value, float) and not math.isfinite(value) else value
