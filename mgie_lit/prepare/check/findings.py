"""What can be found in a data set, and how bad it is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from mgie_lit.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

ERROR, WARNING, INFO = "error", "warning", "info"
SEVERITIES = (ERROR, WARNING, INFO)
KINDS = {
    "missing_file": ERROR,
    "empty_file": ERROR,
    "unreadable": ERROR,
    "no_target": ERROR,
    "different_shape": ERROR,
    "absurd_text": ERROR,
    "no_expressive": ERROR,
    "leak": ERROR,
    "no_split": WARNING,
    "undivided": WARNING,
    "unedited": WARNING,
    "duplicate": WARNING,
    "repeated_pair": INFO,
    "near_duplicate": INFO,
    "near_leak": INFO,
    "different_size": INFO,
}
OPTIONAL = ("unedited", "duplicate")  # left out of a training only by option
SCHEMA = pa.schema([(name, pa.string()) for name in ("id", "split", "finding", "severity", "path", "detail")])


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing about one example."""

    sample_id: str  # empty for what concerns a whole split
    split: str
    kind: str  # of KINDS
    detail: str
    path: str = ""  # of the image concerned, where there is one

    @property
    def severity(self) -> str:
        """``error``, ``warning`` or ``info``."""
        return KINDS[self.kind]


def check_also_excluded(kinds: Collection[str]) -> frozenset[str]:
    """Make sure that examples with such findings may be left out by option.

    Args:
        kinds: As given in the config.

    Returns:
        The same names.

    Raises:
        ConfigError: One is no finding of ``OPTIONAL``.
    """
    unknown = sorted(set(kinds) - set(OPTIONAL))
    if unknown:
        raise ConfigError(
            f"check.also_exclude: expected a list of {', '.join(OPTIONAL)}, got {', '.join(unknown)}; errors are "
            "always left out"
        )
    return frozenset(kinds)


def to_table(findings: Sequence[Finding]) -> pa.Table:
    """Findings as an Arrow table with the columns of ``SCHEMA``."""
    rows = [
        {
            "id": finding.sample_id,
            "split": finding.split,
            "finding": finding.kind,
            "severity": finding.severity,
            "path": finding.path,
            "detail": finding.detail,
        }
        for finding in findings
    ]
    return pa.Table.from_pylist(rows, schema=SCHEMA)


def exclusions(findings: Sequence[Finding], also: Collection[str] = ()) -> dict[str, str]:
    """Examples that a training should leave out.

    Args:
        findings: Of a data set.
        also: Kinds of ``OPTIONAL`` that count as well.

    Returns:
        Id -> problem, in order; several problems of one example are joined.
    """
    problems: dict[str, list[str]] = {}
    for finding in findings:
        if finding.sample_id and (finding.severity == ERROR or finding.kind in also):
            problems.setdefault(finding.sample_id, []).append(f"{finding.kind}: {finding.detail}")
    return {sample_id: "; ".join(found) for sample_id, found in problems.items()}
