from __future__ import annotations

import pytest

from mgie_lit.data.readers.rows import SCHEMA, Row, check_ids, concat, make_table, row_at
from mgie_lit.errors import DataError

FULL = Row(
    sample_id="a_1",
    instruction="make it blue ",
    source="a/1.jpg",
    target="a/2.jpg",
    mask="a/m.png",
    expressive_instruction="It is blue.",
    caption="blue",
    turn=3,
    session_id="a",
    attributes={"kind": "ü"},
    origin="a.json, row 3",
)
BARE = Row(sample_id="b", instruction="x", source="b.jpg")


def test_rows_come_back_as_they_went_in() -> None:
    table = make_table([FULL, BARE])
    assert table.schema == SCHEMA
    assert [row_at(table, 0), row_at(table, 1)] == [FULL, BARE]
    assert len(concat([])) == 0


@pytest.mark.faults
def test_repeated_ids_name_both_rows() -> None:
    rows = [FULL, BARE, Row(sample_id="a_1", instruction="y", source="c.jpg", origin="b.json, row 9")]
    with pytest.raises(DataError, match=r"unique ids, got 'a_1' for a\.json, row 3 and for b\.json, row 9 \(1 ids"):
        check_ids(make_table(rows), "data.root")
    with pytest.raises(DataError, match=r"data\.root: .* got 'b' for example 0 and for example 1"):
        check_ids(make_table([BARE, BARE]), "data.root")


@pytest.mark.faults
@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\\b", "a:b", "a\nb", " a", "a ", "x" * 201, "a\0", "what?"])
def test_ids_that_can_not_be_file_names(name: str) -> None:
    row = Row(sample_id=name, instruction="x", source="b.jpg", origin="line 4")
    with pytest.raises(DataError, match=r"safe as file names \(at most 200 bytes\), got .* for line 4; rename it"):
        check_ids(make_table([BARE, row]), "data.root")


@pytest.mark.parametrize("name", ["a", "...a", "0000132_12", "7_-x (2)", "ü" * 100])
def test_ids_that_can(name: str) -> None:
    check_ids(make_table([Row(sample_id=name, instruction="x", source="b.jpg")]), "data.root")
