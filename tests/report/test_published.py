from __future__ import annotations

import pytest

from mgie_lit.report.published import MARKS, PublishedRow, published_rows, rows_for


def find(system: str, table: str, data: str) -> PublishedRow:
    (row,) = (row for row in published_rows() if (row.system, row.table, row.data) == (system, table, data))
    return row


def test_every_number_is_marked_and_in_range() -> None:
    rows = published_rows()
    assert len(rows) >= 40, f"only {len(rows)} rows: the file is not read whole"
    for row in rows:
        assert row.scores
        assert row.source.url.startswith("https://")
        assert row.source.note
        for name, score in row.scores.items():
            assert score.mark in MARKS
            assert 0.0 < score.value < 1.0, f"{row.system}, {name}: as in metrics.json, not times 100"


def test_rows_are_the_published_ones() -> None:
    mgie = find("MGIE", "Table 1: zero-shot", "magicbrush")
    assert {name: (one.value, one.mark) for name, one in mgie.scores.items()} == {
        "l1": (0.082, "1"),
        "dino": (0.8222, "2"),
        "clip_i": (0.9114, "2"),
        "clip_t": (0.304, "1"),
    }
    assert find("MGIE", "Table 2: fine-tuned", "ma5k").scores["lpips"].value == 0.235
    assert find("InsPix2Pix", "Table 1: zero-shot", "evr").scores["dino"].value == 0.6782
    chain = find("HIVE + MagicBrush", "multi-turn", "magicbrush")
    assert [one.value for one in chain.scores.values()] == [0.0966, 0.0365, 0.8785, 0.7891, 0.2796]
    assert {one.mark for one in chain.scores.values()} == {"C"}


def test_systems_are_not_repeated_within_a_table() -> None:
    keys = [(row.source.url, row.table, row.data, row.system) for row in published_rows()]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(("turns", "other"), [("given", "multi-turn"), ("chain", "single-turn")])
def test_rows_of_a_data_set_can_be_narrowed(turns: str, other: str) -> None:
    rows = rows_for("magicbrush", turns=turns)
    assert {row.data for row in rows} == {"magicbrush"}
    assert other not in {row.table for row in rows}
    assert "Table 1: zero-shot" in {row.table for row in rows}
    assert len(rows) < len(rows_for("magicbrush"))
    assert rows_for("photo_edits") == ()
