"""From parts to the file: rows in the order of the data set, its settings and its report."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

from filelock import FileLock

from mgie_lit.errors import ConfigError
from mgie_lit.evaluation.files import write_whole
from mgie_lit.prepare.expressive.parts import parts_folder, scan_parts, sync_folder
from mgie_lit.prepare.expressive.report import make_report, write_report

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path
    from typing import Any

    from mgie_lit.prepare.expressive.parts import PartScan
    from mgie_lit.prepare.expressive.requests import BatchPlan, Requests
    from mgie_lit.prepare.expressive.settings import Settings

MERGE_LOCK = "merge.lock"


def settings_path(path: Path) -> Path:
    """The file with the settings, beside the rows."""
    return path.with_name(f"{path.stem}.settings.json")


def report_path(path: Path) -> Path:
    """The file with the report, beside the rows."""
    return path.with_name(f"{path.stem}.report.json")


def finish(path: Path, requests: Requests, plan: BatchPlan, settings: Settings) -> dict[str, Any] | None:
    """Make the file if all batches are there; of several processes that try, one does it.

    It can be repeated after a kill at any moment: the parts go last.

    Args:
        path: Of the file.
        requests: What was asked.
        plan: Its batches.
        settings: Of the run.

    Returns:
        The report, or None if batches are missing or another process has finished the file.

    Raises:
        ConfigError: A file that is not ours has appeared at ``path``.
        DataError: A part is damaged.
    """
    folder = parts_folder(path)
    if not folder.is_dir():
        return None
    with FileLock(folder / MERGE_LOCK):
        if not folder.is_dir() or not _merge(path, requests, plan, settings.hash):
            return None
        write_whole(settings_path(path), lambda draft: draft.write_text(settings.to_json(), encoding="utf-8"))
        report = make_report(path, settings)
        write_report(report, report_path(path))
        shutil.rmtree(folder, ignore_errors=True)  # another process may be waiting at the lock inside
        return report


def is_ours(path: Path, settings_hash: str) -> bool:
    """Whether the file at ``path`` begins with a row of these settings."""
    with path.open("rb") as file:
        first = file.readline()
    return f'"settings": "{settings_hash}"'.encode() in first


def _merge(path: Path, requests: Requests, plan: BatchPlan, settings_hash: str) -> bool:
    """Write the rows to ``path``; gives False where batches are missing."""
    if path.exists():  # killed between the last two steps
        if not is_ours(path, settings_hash):
            raise _appeared(path)
        return True
    folder = parts_folder(path)
    scans = scan_parts(folder, requests, plan, settings_hash)
    if sum(len(scan.batches) for scan in scans) < len(plan):
        return False
    draft = folder / "merged.jsonl"
    _write_in_order(draft, scans, len(requests))
    try:
        os.link(draft, path)  # fails where the file exists, unlike a rename
    except FileExistsError:
        raise _appeared(path) from None
    except OSError:  # a file system without hard links
        if path.exists():
            raise _appeared(path) from None
        draft.rename(path)
    sync_folder(path.parent)  # the parts are removed soon
    return True


def _write_in_order(draft: Path, scans: Sequence[PartScan], num_rows: int) -> None:
    places: list[tuple[int, int, int]] = [(0, 0, 0)] * num_rows
    for number, scan in enumerate(scans):
        for position, offset, size in scan.rows:
            places[position] = (number, offset, size)
    files = [scan.path.open("rb") for scan in scans]
    try:
        with draft.open("wb") as out:
            for number, offset, size in places:
                files[number].seek(offset)
                out.write(files[number].read(size))
            out.flush()
            os.fsync(out.fileno())
    finally:
        for file in files:
            file.close()


def _appeared(path: Path) -> ConfigError:
    return ConfigError(
        f"expressive.path: expected a new file, but {path} exists and is not of this run; it is not overwritten. Move "
        "it away and run the same command again: all rows are kept"
    )
