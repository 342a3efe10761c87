from __future__ import annotations

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mgie_lit.data.readers import expressive
from mgie_lit.data.readers.expressive import expressive_column, expressive_files, read_expressive, warn_raw_words
from mgie_lit.errors import ConfigError, DataError


def write_lines(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


def test_lines_of_the_prepare_command(tmp_path: Path) -> None:
    file = write_lines(
        tmp_path / "a.jsonl",
        {"id": "a", "expressive_instruction": "It is ü.", "settings": "x"},
        {"id": "b", "expressive_instruction": ""},
        {"id": "c", "expressive_instruction": None},
    )
    assert list(read_expressive([file])) == [("a", "It is ü."), ("b", None), ("c", None)]


@pytest.mark.parametrize("indent", [None, 2])
def test_object_of_the_reference(tmp_path: Path, indent: int | None) -> None:
    content = {
        "0000132_127380018_0": {"instruction": "paint it", "expressive": "It is painted."},
        "0000145_0_0": {"instruction": "paint it", "expressive": "Painted."},
    }
    (tmp_path / "a.json").write_text(json.dumps(content, indent=indent))
    expected = [("0000132_127380018", "It is painted."), ("0000145_0", "Painted.")]
    assert list(read_expressive([tmp_path / "a.json"])) == expected


def test_texts_are_put_in_the_order_of_the_data_set() -> None:
    ids = pa.chunked_array([["c", "a"], ["b", "d"]])
    rows = [("a", "old"), ("b", "B"), ("a", "A"), ("set-d", "D"), ("other-c", "no")]
    assert expressive_column(ids, iter(rows), "set").to_pylist() == [None, "A", "B", "D"]
    assert expressive_column(ids, iter([]), "set").to_pylist() == [None] * 4


def test_one_file_or_several(tmp_path: Path) -> None:
    one, two = (write_lines(tmp_path / name) for name in ("a.jsonl", "b.jsonl"))
    assert expressive_files(str(one), "data") == [one]
    assert expressive_files([str(one), str(two)], "data") == [one, two]


@pytest.mark.faults
def test_file_that_is_not_there(tmp_path: Path) -> None:
    message = (
        r"data\.expressive: expected a file made by `mgie prepare expressive`, .* or the word instruction, got .*none"
    )
    with pytest.raises(ConfigError, match=message):
        expressive_files(str(tmp_path / "none"), "data")


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"id": "a", "text": "b"}',
            r"line 1: expected a text under `id` and the key `expressive_instruction`, got .*'text'.*; give a",
        ),
        (
            '{"id": "a", "expressive_instruction": "b"}\n{"x": 1}',
            r"line 2: expected a text under `id` .*, got \{'x': 1\}",
        ),
        ('{"id": 3, "expressive_instruction": "b"}', r"line 1: expected a text under `id` .*got \{'id': 3"),
        ('["a"]', r"a\.jsonl: expected JSON lines with `id` and `expressive_instruction`, or ml-mgie's object"),
        ('{"a": "b"}', r"expected JSON lines .* or ml-mgie's object of objects"),
        ("so blue", r"expected JSON, got something else"),
    ],
)
def test_files_of_another_kind(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(DataError, match=message):
        list(read_expressive([tmp_path / "a.jsonl"]))


def test_raw_words_are_warned_of_once(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expressive, "_warned", set())
    for _ in range(2):
        warn_raw_words("data", "evr")
    assert caplog.text.count("data.expressive=instruction: the raw words of evr stand in for expressive") == 1
