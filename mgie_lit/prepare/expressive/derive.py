"""Expressive instructions for all examples of a data set: batches, resumed where an earlier run ended."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.expressive.finish import finish, is_ours, report_path, settings_path
from mgie_lit.prepare.expressive.parts import (
    append_rows,
    claimed,
    part_path,
    parts_folder,
    repair,
    scan_part,
    scan_parts,
)
from mgie_lit.prepare.expressive.report import show_report
from mgie_lit.prepare.expressive.requests import BatchPlan, Requests
from mgie_lit.prepare.expressive.settings import Settings, differing, read_settings, require_same
from mgie_lit.prepare.expressive.shards import Shard

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import torch

    from mgie_lit.prepare.expressive.recipe import Recipe

LOG = logging.getLogger(__name__)

_SETTINGS_FILE = "settings.json"


def derive(
    requests: Requests,
    recipe: Recipe,
    path: Path,
    *,
    device: torch.device,
    shard: Shard | None = None,
    environment: Mapping[str, Any] | None = None,
) -> Path:
    """Ask about every example of a shard, and finish the file when all shards are done.

    Batches do not depend on shards or restarts, so neither do the answers of one kind of machine: the file is the same.

    Args:
        requests: What is asked.
        recipe: By whom and how.
        path: File of JSON lines to make; unfinished parts lie in ``<path>.parts`` and are gone on with.
        device: Where the models run.
        shard: What this process does; None = all of it.
        environment: What the settings file tells beside the settings, e.g. versions.

    Returns:
        ``path``, or this shard's part while others are not done.

    Raises:
        ConfigError: The file exists, was begun with other settings, or is being written by another process.
        DataError: An image can not be opened, or a part is damaged.
        CheckpointError: A model can not be read.
    """
    shard = shard or Shard()
    check_path(path)
    recipe.check()
    settings = Settings(recipe.settings(requests, device), {**(environment or {}), "device": str(device)})
    if _is_finished(path, settings):
        return path
    folder = _open_folder(path, settings)
    plan = BatchPlan(requests.instructions, recipe.batch_size, sort=recipe.sort)
    with claimed(folder, shard) as part:
        if not path.exists():
            repair(part, scan_part(part, requests, plan, settings.hash))
            _work(requests, recipe, plan, part, shard, settings, device)
    report = finish(path, requests, plan, settings)
    if report is not None:
        show_report(report, Console(stderr=True))
    if path.exists():
        return path
    LOG.warning("%s: shard %s is done, others are not; the last one writes %s", folder, shard, path)
    return part_path(folder, shard)


def check_path(path: Path) -> None:
    """Make sure that a file can be made, or may be one of ours; it is the first thing to do.

    Args:
        path: Of the file.

    Raises:
        ConfigError: Something else is there already.
    """
    if not parts_folder(path).is_dir() and not (path.exists() and settings_path(path).is_file()):
        _refuse_taken(path)


def _refuse_taken(path: Path) -> None:
    taken = [file for file in (path, settings_path(path), report_path(path)) if os.path.lexists(file)]
    if taken:
        raise ConfigError(
            f"expressive.path: expected a new file, but {taken[0]} exists and is not overwritten; choose another with "
            "expressive.path="
        )


def _is_finished(path: Path, settings: Settings) -> bool:
    """Whether the very file was made before."""
    if parts_folder(path).is_dir():
        return False
    if not path.exists() or not settings_path(path).is_file():
        _refuse_taken(path)
        return False
    if read_settings(settings_path(path)).hash != settings.hash or not is_ours(path, settings.hash):
        _refuse_taken(path)
    LOG.warning("%s: finished already with these settings; nothing to do", path)
    return True


def _open_folder(path: Path, settings: Settings) -> Path:
    """The folder of the parts, with the settings in it; what an earlier run began is gone on with."""
    folder = parts_folder(path)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / _SETTINGS_FILE
    draft = folder / f".{os.getpid()}-{_SETTINGS_FILE}"
    try:
        draft.write_text(settings.to_json(), encoding="utf-8")
        try:
            os.link(draft, file)  # the first of several processes wins
        except FileExistsError:
            pass
        except OSError:  # a file system without hard links
            if not file.exists():
                draft.rename(file)
    finally:
        draft.unlink(missing_ok=True)
    before = read_settings(file)
    require_same(before, settings, folder)
    if path.exists() and not is_ours(path, settings.hash):
        raise ConfigError(f"expressive.path: expected a new file, but {path} exists and is not of the run in {folder}")
    changed = [
        f"{name} ({old} before, {new} now)" for name, old, new in differing(before.environment, settings.environment)
    ]
    if changed:
        LOG.warning("%s: going on in another environment, so words may differ: %s", folder, "; ".join(changed))
    return folder


def _work(
    requests: Requests,
    recipe: Recipe,
    plan: BatchPlan,
    part: Path,
    shard: Shard,
    settings: Settings,
    device: torch.device,
) -> None:
    """All batches of a shard that no part holds yet."""
    done = {batch for scan in scan_parts(part.parent, requests, plan, settings.hash) for batch in scan.batches}
    own = range(shard.index, len(plan), shard.count)
    todo = [batch for batch in own if batch not in done]
    if not todo:
        return
    finished = sum(len(plan.positions(batch)) for batch in own if batch in done)
    if finished:
        LOG.warning("%s: going on after %d rows", part.parent, finished)
    recipe.load(device)
    with _progress(f"asking (shard {shard})" if shard.count > 1 else "asking") as progress:
        total = finished + sum(len(plan.positions(batch)) for batch in todo)
        task = progress.add_task("", total=total, completed=finished, before=finished)
        for batch in todo:
            positions = plan.positions(batch)
            append_rows(part, recipe.rows(requests, positions, settings.hash))
            progress.advance(task, len(positions))


class _Rate(ProgressColumn):
    """Rows a second since this process began."""

    def render(self, task: Task) -> Text:
        """What stands beside the bar."""
        rows = task.completed - task.fields["before"]
        return Text(f"{rows / task.elapsed:.2f} rows/s" if rows and task.elapsed else "- rows/s")


def _progress(what: str) -> Progress:
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), _Rate(), TimeRemainingColumn())
    return Progress(*columns, console=Console(stderr=True))
