from __future__ import annotations

import gzip
import math
from pathlib import Path

import pytest

from mgie_lit.data.readers.annotations import (
    content_hash,
    find_file,
    no_layout,
    optional_text,
    read_json,
    read_lines,
    read_list,
    source_caption,
    split_files,
    text_of,
    texts_of,
)
from mgie_lit.errors import DataError


def test_bare_nan_gzip_and_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json.gz").write_bytes(gzip.compress(b'\xef\xbb\xbf[{"x": NaN}]'))
    (row,) = read_list(tmp_path / "a.json.gz")
    assert math.isnan(row["x"])


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[1, ", r"a\.json: expected JSON, got something else .*; copy or download it again"),
        (b"\xff\xfe", r"a\.json: expected JSON, got something else"),
        (b"{}", r"a\.json: expected a list of objects, got a dict; is it the right file\?"),
        (b'[{}, "x"]', r"a\.json, row 1: expected an object, got a str; repair this row"),
    ],
)
def test_json_that_is_no_list_of_objects(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / "a.json")


@pytest.mark.faults
def test_files_that_can_not_be_read(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot be read .*; copy or download it again"):
        read_json(tmp_path / "none.json")
    (tmp_path / "cut.json.gz").write_bytes(gzip.compress(b"[]")[:-3])
    with pytest.raises(DataError, match=r"cut\.json\.gz: cannot be read"):
        read_json(tmp_path / "cut.json.gz")
    with pytest.raises(DataError, match=r"none\.jsonl: expected a file of JSON lines, but it cannot be read"):
        list(read_lines(tmp_path / "none.jsonl"))


def test_lines_are_numbered_and_empty_ones_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('\ufeff{"a": 1}\n\n  \n{"a": 2}', encoding="utf-8")
    assert list(read_lines(tmp_path / "a.jsonl")) == [(1, {"a": 1}), (4, {"a": 2})]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("line", "message"),
    [("{", r"line 2: expected a JSON object, cannot read it .*; repair this line"), ("[1]", r"line 2: .* got a list")],
)
def test_lines_that_are_no_objects(tmp_path: Path, line: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' + line)
    with pytest.raises(DataError, match=message):
        list(read_lines(tmp_path / "a.jsonl"))


def test_texts_are_left_as_they_stand() -> None:
    assert text_of({"a": "Making dark color "}, "a", "") == "Making dark color "
    assert texts_of({"a": [" x "]}, "a", "") == [" x "]
    assert texts_of({}, "a", "") == []
    assert [optional_text({"a": value}, "a") for value in (None, float("nan"), "", "  ", " x", 7)] == [
        *[None] * 4,
        " x",
        "7",
    ]


@pytest.mark.faults
@pytest.mark.parametrize("value", [None, "", "  ", 3, float("nan")])
def test_texts_that_have_to_be_there(value: object) -> None:
    with pytest.raises(DataError, match=r"a\.json, row 1: expected a text under 'words', got .*; repair or remove"):
        text_of({"words": value}, "words", "a.json, row 1")


@pytest.mark.faults
@pytest.mark.parametrize("value", ["x", [""], ["x", 3], None])
def test_lists_of_texts(value: object) -> None:
    with pytest.raises(DataError, match=r"row 1: expected a list of texts under 'words', got .*; repair or remove"):
        texts_of({"words": value}, "words", "row 1")


def test_splits_that_are_there(tmp_path: Path) -> None:
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "a.json").touch()
    (tmp_path / "b.json").touch()
    folders, names = [tmp_path / "splits", tmp_path], {"train": "a.json", "val": "b.json", "test": "c.json"}
    found = split_files(tmp_path, folders, names, needed="train", option="data.root", anchor="x")
    assert found == {"train": tmp_path / "splits" / "a.json", "val": tmp_path / "b.json"}
    assert find_file(folders, ["c.json"]) is None
    with pytest.raises(DataError, match=r"data\.root: no c\.json in .*; expected a layout of docs/datasets\.md#x$"):
        split_files(tmp_path, folders, names, needed="test", option="data.root", anchor="x")


@pytest.mark.faults
@pytest.mark.parametrize("near", ["root/deeper", ""])
def test_a_folder_nearby_is_suggested(tmp_path: Path, near: str) -> None:
    (tmp_path / "root" / "deeper").mkdir(parents=True)
    (tmp_path / near / "a.json").touch()
    error = no_layout("data.root", tmp_path / "root", "a.json", "x", ["a.json"])
    assert f"docs/datasets.md#x (did you mean {tmp_path / near}?)" in str(error)


def test_content_hash_tells_files_apart(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("12")
    (tmp_path / "b").write_text("3")
    first = content_hash(tmp_path / "a", tmp_path / "b")
    assert first == content_hash(tmp_path / "a", tmp_path / "b")
    (tmp_path / "a").write_text("1")
    (tmp_path / "b").write_text("23")
    assert content_hash(tmp_path / "a", tmp_path / "b") != first


def test_source_caption_is_the_first_that_is_there() -> None:
    assert source_caption({"input": " ", "caption": "a dog"}, "input", "caption") == {"source_caption": "a dog"}
    assert source_caption({"input": "a cat", "caption": "a dog"}, "input", "caption") == {"source_caption": "a cat"}
    assert source_caption({"edit": "warmer"}, "input", "caption") == {}
