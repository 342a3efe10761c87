from __future__ import annotations

import pytest

from mgie_lit.errors import ConfigError
from mgie_lit.prepare.check.findings import (
    KINDS,
    SCHEMA,
    SEVERITIES,
    Finding,
    check_also_excluded,
    exclusions,
    to_table,
)


def test_every_kind_has_a_severity() -> None:
    assert len(KINDS) == 16
    assert set(KINDS.values()) == set(SEVERITIES)


def test_table_has_a_row_for_each_finding() -> None:
    table = to_table([Finding("a", "train", "leak", "why", "a.png"), Finding("", "val", "no_split", "gone")])
    assert table.schema == SCHEMA
    first = {"id": "a", "split": "train", "finding": "leak", "severity": "error", "path": "a.png", "detail": "why"}
    assert table.to_pylist()[0] == first
    assert to_table([]).num_rows == 0


def test_only_errors_are_left_out_and_others_by_option() -> None:
    findings = [
        Finding("a", "train", "unreadable", "broken"),
        Finding("a", "train", "absurd_text", "empty"),
        Finding("b", "train", "unedited", "same"),
        Finding("c", "train", "near_leak", "alike"),
        Finding("", "val", "no_split", "gone"),
    ]
    assert exclusions(findings) == {"a": "unreadable: broken; absurd_text: empty"}
    assert list(exclusions(findings, {"unedited"})) == ["a", "b"]


@pytest.mark.faults
def test_only_some_kinds_are_optional() -> None:
    assert check_also_excluded(["unedited", "duplicate"]) == {"unedited", "duplicate"}
    with pytest.raises(
        ConfigError, match=r"check\.also_exclude: expected a list of unedited, duplicate, got leak; err"
    ):
        check_also_excluded(["unedited", "leak"])
