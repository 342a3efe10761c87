"""What a check leaves behind: a table on the screen, a table on disk, a list of examples to leave out."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING

import pyarrow.parquet as pq
from rich.table import Table

from mgie_lit.prepare.check.findings import KINDS, SEVERITIES, to_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from mgie_lit.data.readers import EditDataset
    from mgie_lit.prepare.check.findings import Finding

FINDINGS_FILE, EXCLUDE_FILE, CLEAN_FILE = "findings.parquet", "exclude.jsonl", "clean.jsonl"
_EXAMPLES = 3  # ids shown of each kind
_COLORS = {"error": "red", "warning": "yellow", "info": "blue"}


def summary(findings: Sequence[Finding], sizes: Mapping[str, int]) -> Table | str:
    """Counts by kind and split, the worst first, with a few examples.

    Args:
        findings: Of a data set.
        sizes: Examples that were looked at, by split.

    Returns:
        A table to print, or a line if nothing was found.
    """
    title = (
        f"{', '.join(f'{count} {split}' for split, count in sizes.items())} examples: {len(findings) or 'no'} findings"
    )
    if not findings:
        return title
    table = Table(title=title, title_justify="left")
    for name in ("severity", "finding"):
        table.add_column(name)
    for split in sizes:
        table.add_column(split, justify="right")
    table.add_column("examples", overflow="fold")
    by_kind: defaultdict[str, list[Finding]] = defaultdict(list)
    for finding in findings:
        by_kind[finding.kind].append(finding)
    for kind in sorted(by_kind, key=lambda kind: (SEVERITIES.index(KINDS[kind]), -len(by_kind[kind]))):
        some = by_kind[kind]
        counts = [sum(finding.split == split for finding in some) for split in sizes]
        shown = "\n".join(_line(finding) for finding in some[:_EXAMPLES])
        severity = f"[{_COLORS[KINDS[kind]]}]{KINDS[kind]}[/]"
        table.add_row(severity, kind, *(str(count or "") for count in counts), _plain(shown))
    return table


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    """Write all findings as parquet."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(to_table(findings), path)


def write_exclusions(problems: Mapping[str, str], path: Path) -> None:
    """Write examples to leave out as JSON lines with ``id`` and ``problem``, as ``data.exclude=`` reads them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": sample_id, "problem": problem}) for sample_id, problem in problems.items()]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def write_clean(datasets: Mapping[str, EditDataset], problems: Mapping[str, str], path: Path) -> None:
    """Write the examples without a problem as JSON lines with ``id`` and ``split``, in the order of the data set."""
    with path.open("w", encoding="utf-8") as file:
        for split, dataset in datasets.items():
            for sample_id in map(dataset.sample_id, range(len(dataset))):
                if sample_id not in problems:
                    file.write(json.dumps({"id": sample_id, "split": split}) + "\n")


def _line(finding: Finding) -> str:
    text = f"{finding.sample_id}: {finding.detail}" if finding.sample_id else finding.detail
    return text if len(text) <= 160 else text[:157] + "..."


def _plain(text: str) -> str:
    """Brackets in data are no markup; control characters do not reach the terminal."""
    shown = "".join(
        letter if letter.isprintable() or letter == "\n" else "\N{REPLACEMENT CHARACTER}" for letter in text
    )
    return shown.replace("[", r"\[")
