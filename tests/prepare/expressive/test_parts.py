"""Parts of an unfinished file; what happens to them in a run is tested in test_derive.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mgie_lit.prepare.expressive.parts import append_rows, claimed, json_line, part_path, parts_folder
from mgie_lit.prepare.expressive.shards import Shard


@pytest.mark.parametrize("text", ["red", "赤い\u2028空\n\r", "\ud800", "\0"])
def test_a_row_is_one_line_of_utf8(text: str) -> None:
    line = json_line({"id": text})
    assert line.count(b"\n") == 1
    assert json.loads(line.decode()) == {"id": text}


def test_readable_where_it_can_be() -> None:
    assert json_line({"id": "赤"}) == '{"id": "赤"}\n'.encode()


def test_rows_are_added_at_the_end(tmp_path: Path) -> None:
    append_rows(tmp_path / "part", [{"id": 1}, {"id": 2}])
    append_rows(tmp_path / "part", [{"id": 3}])
    assert (tmp_path / "part").read_text() == '{"id": 1}\n{"id": 2}\n{"id": 3}\n'


def test_names() -> None:
    folder = parts_folder(Path("out/words.jsonl"))
    assert part_path(folder, Shard(3, 12)) == Path("out/words.jsonl.parts/part-00003-of-00012.jsonl")


def test_shards_of_one_count_work_side_by_side(tmp_path: Path) -> None:
    with claimed(tmp_path, Shard(0, 2)) as first, claimed(tmp_path, Shard(1, 2)) as second:
        assert first != second
    with claimed(tmp_path, Shard(0, 1)):  # both have let go
        pass
