from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgie_lit.data.readers.imagefolder import ImageFolder
from mgie_lit.errors import DataError
from mgie_lit.testing.datasets import write_imagefolder


def write_rows(root: Path, *rows: dict[str, Any]) -> Path:
    root.mkdir(parents=True, exist_ok=True)
    base = {"source_file_name": "a.png", "instruction": "x"}
    (root / "metadata.jsonl").write_text("".join(f"{json.dumps(base | row)}\n" for row in rows))
    return root


def ids(root: Path, split: str, **kwargs: Any) -> list[str]:  # noqa: ANN401
    dataset = ImageFolder(split, root=root, **kwargs)
    return [dataset.sample_id(index) for index in range(len(dataset))]


def test_every_key_of_a_row(datasets_dir: Path) -> None:
    dataset = ImageFolder("test", root=datasets_dir / "imagefolder")
    first, second, last = dataset[0], dataset[1], dataset[3]
    assert [example.sample_id for example in (first, second, last)] == ["photo-000", "pair-1", "pair-3"]
    assert first.mask is not None
    assert second.mask is None
    inside = np.asarray(last.mask) == 255
    changed = (np.asarray(last.source) != np.asarray(last.target)).any(axis=-1)
    assert changed[inside].any()
    assert not changed[~inside].any()
    assert second.caption == "an edited disc, number 1"
    assert second.expressive_instruction == "The picture is mirrored from left to right."
    assert second.attributes == {"kind": "odd"}
    assert dataset.missing_expressive() == (0, [])


def test_sessions_and_numbers_as_ids(tmp_path: Path) -> None:
    root = write_rows(tmp_path, {"id": 7, "session_id": "s", "turn": 2, "size": 3, "target_file_name": None})
    row = ImageFolder("train", root=root).row(0)
    assert (row.sample_id, row.session_id, row.turn, row.target, row.attributes) == ("7", "s", 2, None, {})


def test_one_file_is_every_split(datasets_dir: Path) -> None:
    everything = ids(datasets_dir / "imagefolder", "train")
    assert len(everything) == 8
    assert ids(datasets_dir / "imagefolder", "val") == ids(datasets_dir / "imagefolder", "test") == everything


def test_rows_that_name_their_split(tmp_path: Path) -> None:
    root = write_rows(
        tmp_path,
        *({"id": name, "split": split} for name, split in zip("abcd", ["val", "train", "test", "train"], strict=True)),
    )
    assert [ids(root, split) for split in ("train", "val", "test")] == [["b", "d"], ["a"], ["c"]]


def test_a_folder_a_split(tmp_path: Path) -> None:
    write_imagefolder(tmp_path, num_examples=2, is_divided=True)
    assert [ids(tmp_path, split) for split in ("train", "val", "test")] == [
        ["photo-000", "pair-1"],
        ["photo-002", "pair-3"],
        ["photo-004", "pair-5"],
    ]
    example = ImageFolder("val", root=tmp_path)[1]
    assert example.target is not None
    assert example.mask is not None


def test_long_metadata_are_indexed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mgie_lit.data.readers.imagefolder.STORED_FROM", 1)
    root, index_dir = tmp_path / "own", tmp_path / "index"
    write_rows(root, {"id": "a"}, {"id": "b"})
    assert ids(root, "val", index_dir=index_dir) == ["a", "b"]
    (index,) = index_dir.glob("*/imagefolder-*.arrow")
    before = index.stat().st_mtime_ns
    assert ids(root, "train", index_dir=index_dir) == ["a", "b"]
    assert index.stat().st_mtime_ns == before
    write_rows(root, {"id": "c"})
    assert ids(root, "val", index_dir=index_dir) == ["c"]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": ""}, r"metadata\.jsonl, line 2: expected a text under 'instruction', got ''"),
        ({"source_file_name": None}, r"line 2: expected a text under 'source_file_name', got None"),
        ({"turn": "one"}, r"line 2: expected a whole number under 'turn', got 'one'; repair or remove it"),
        ({"turn": True}, r"line 2: expected a whole number under 'turn', got True"),
        ({"id": "../a"}, r"expected ids that are safe as file names .* got '\.\./a' for metadata\.jsonl, line 2"),
        ({"id": "first"}, r"unique ids, got 'first' for metadata\.jsonl, line 1 and for metadata\.jsonl, line 2"),
    ],
)
def test_faulty_rows(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        ImageFolder("train", root=write_rows(tmp_path, {"id": "first"}, row))


@pytest.mark.faults
def test_splits_of_another_name(tmp_path: Path) -> None:
    root = write_rows(tmp_path, {"id": "a", "split": "train"}, {"id": "b", "split": "dev"}, {"id": "c"})
    with pytest.raises(
        DataError, match=r"expected a `split` of train, val, test in every row, got 'dev', None; repair"
    ):
        ImageFolder("train", root=root)


@pytest.mark.faults
def test_missing_metadata(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: no metadata\.jsonl or val/metadata\.jsonl in .*#imagefolder"):
        ImageFolder("val", root=tmp_path)
    write_rows(tmp_path / "train", {})
    with pytest.raises(DataError, match=r"no metadata\.jsonl or val/metadata\.jsonl in"):
        ImageFolder("val", root=tmp_path)


@pytest.mark.faults
def test_a_split_without_rows(tmp_path: Path) -> None:
    root = write_rows(tmp_path, {"split": "train"})
    with pytest.raises(DataError, match=r"data\.root: expected examples of imagefolder for the split val, got none in"):
        ImageFolder("val", root=root)
