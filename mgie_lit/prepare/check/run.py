"""The whole check: every example opened in a pool of processes, then all of them compared."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import repeat
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.progress import track

from mgie_lit.errors import ConfigError, DataError
from mgie_lit.prepare.check.compare import duplicates, leaks
from mgie_lit.prepare.check.examine import Examined, Limits, examine, text_findings
from mgie_lit.prepare.check.findings import Finding

if TYPE_CHECKING:
    from collections.abc import Callable

    from mgie_lit.data.readers import EditDataset

CHUNK = 32  # examples that a process opens before it reports
_datasets: dict[str, EditDataset] = {}  # of a worker process, by split


def check(
    datasets: Mapping[str, EditDataset],
    limits: Limits,
    *,
    num_workers: int | None = None,
    expressive: Mapping[str, str | None] | None = None,
) -> list[Finding]:
    """Open all examples and compare them.

    Args:
        datasets: By split, in the order training, validation, test; they go to the workers by pickle.
        limits: From where on something is a finding.
        num_workers: Processes; None = one for each core, 0 = in this process.
        expressive: Texts by id that the examples need; None = none does. An example's own text counts, too.

    Returns:
        All findings: by split, those of single examples first, then duplicates, then leaks.

    Raises:
        ConfigError: ``num_workers`` is negative.
        DataError: A worker died.
    """
    if num_workers is not None and num_workers < 0:
        raise ConfigError(f"check.num_workers: expected a number >= 0, or null for all cores, got {num_workers}")
    seen = _examine_all(datasets, limits, _num_cores() if num_workers is None else num_workers)
    findings: list[Finding] = []
    for split, examined in seen.items():
        findings += examined.findings
        if expressive is not None:
            findings += _expressive_findings(split, examined, expressive, limits)
        findings += duplicates(split, examined)
    return [*findings, *leaks(seen)]


def _examine_all(datasets: Mapping[str, EditDataset], limits: Limits, num_workers: int) -> dict[str, Examined]:
    jobs = [
        (split, range(first, min(first + CHUNK, len(dataset))))
        for split, dataset in datasets.items()
        for first in range(0, len(dataset), CHUNK)
    ]
    parts: dict[str, list[Examined]] = {split: [] for split in datasets}
    with _pool(datasets, min(num_workers, len(jobs))) as run:
        results = run(jobs, limits)
        for (split, _), part in zip(jobs, _with_progress(results, len(jobs)), strict=True):
            parts[split].append(part)
    return {split: _joined(some) for split, some in parts.items()}


@contextmanager
def _pool(
    datasets: Mapping[str, EditDataset], num_workers: int
) -> Iterator[Callable[[list[tuple[str, range]], Limits], Iterator[Examined]]]:
    """Gives a function that examines jobs in order, here or in processes."""
    if not num_workers:
        yield lambda jobs, limits: (examine(datasets[split], split, places, limits) for split, places in jobs)
        return
    # Not by fork: threads of Arrow and torch do not survive it.
    context = multiprocessing.get_context("forkserver" if os.name == "posix" else "spawn")
    if os.name == "posix":
        context.set_forkserver_preload([__name__])
    try:
        with ProcessPoolExecutor(num_workers, context, initializer=_install, initargs=(dict(datasets),)) as pool:
            yield lambda jobs, limits: pool.map(_examine_job, jobs, repeat(limits))
    except BrokenProcessPool as error:
        raise DataError(
            "check: a worker died, probably for lack of memory; try again with fewer of them, check.num_workers=1"
        ) from error


def _install(datasets: dict[str, EditDataset]) -> None:
    _datasets.update(datasets)


def _examine_job(job: tuple[str, range], limits: Limits) -> Examined:
    split, places = job
    return examine(_datasets[split], split, places, limits)


def _with_progress(results: Iterator[Examined], total: int) -> Iterator[Examined]:
    return iter(track(results, "opening examples", total=total, console=Console(stderr=True), transient=True))


def _joined(parts: list[Examined]) -> Examined:
    whole = Examined()
    for part in parts:
        whole.sample_ids += part.sample_ids
        whole.has_expressive += part.has_expressive
        whole.findings += part.findings
    whole.prints = np.concatenate([whole.prints, *(part.prints for part in parts)])
    return whole


def _expressive_findings(
    split: str, seen: Examined, expressive: Mapping[str, str | None], limits: Limits
) -> Iterator[Finding]:
    for sample_id, has_own in zip(seen.sample_ids, seen.has_expressive, strict=True):
        text = expressive.get(sample_id)
        if text is not None:
            yield from text_findings(sample_id, split, text, "data.expressive", limits)
        elif not has_own:
            yield Finding(sample_id, split, "no_expressive", "data.expressive has no text for it")


def _num_cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
