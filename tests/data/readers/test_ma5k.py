from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from mgie_lit.data.readers.ma5k import MA5k
from mgie_lit.errors import DataError


def test_training_is_what_validation_and_test_leave_over(datasets_dir: Path) -> None:
    sets = {split: MA5k(split, root=datasets_dir / "ma5k") for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 35, "val": 5, "test": 10}
    photos = {split: {data.row(i).session_id for i in range(len(data))} for split, data in sets.items()}
    assert not photos["train"] & photos["val"]
    assert not photos["train"] & photos["test"]
    assert len(set.union(*photos.values())) == 10
    example = sets["test"][1]
    assert (example.sample_id, example.session_id) == ("0002_O__0002_B", "0002_O")
    assert example.attributes == {"expert": "B"}
    assert example.instruction == "turn it upside down (6)"
    assert example.source.size == (30, 20)


def test_packed_annotations_beside_each_other(datasets_dir: Path, tmp_path: Path) -> None:
    root = datasets_dir / "ma5k"
    (tmp_path / "FiveK.json.gz").write_bytes(gzip.compress((root / "FiveK.json").read_bytes()))
    for split in ("val", "test"):
        name = f"{split}_sess_1.json"
        (tmp_path / name).write_bytes((root / "annotations" / name).read_bytes())
    assert len(MA5k("train", root=tmp_path)) == 35


@pytest.mark.faults
def test_missing_annotations(datasets_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: no val_sess_1\.json in .*; expected .*#ma5k"):
        MA5k("val", root=tmp_path)
    for name in ("val_sess_1.json", "test_sess_1.json"):
        (tmp_path / name).write_bytes((datasets_dir / "ma5k" / "annotations" / name).read_bytes())
    with pytest.raises(DataError, match=r"data\.root: no FiveK\.json in"):
        MA5k("val", root=tmp_path)


@pytest.mark.faults
def test_a_pair_with_two_requests_names_both(datasets_dir: Path, tmp_path: Path) -> None:
    for path in (datasets_dir / "ma5k").rglob("*.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    entries = json.loads((tmp_path / "FiveK.json").read_text())
    (tmp_path / "FiveK.json").write_text(json.dumps([*entries, {**entries[20], "request": "again"}]))
    with pytest.raises(DataError, match=r"'0005_O__0005_A' for FiveK\.json, row 20 and for FiveK\.json, row 50"):
        MA5k("test", root=tmp_path)


def test_real_annotations(real_data: Path) -> None:
    sets = {split: MA5k(split, root=real_data / "ma5k") for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 17325, "val": 2475, "test": 4950}
    names = {data.sample_id(index) for data in sets.values() for index in range(len(data))}
    assert len(names) == 24750
    photos = [{data.row(index).session_id for index in range(0, len(data), 7)} for data in sets.values()]
    assert not photos[0] & (photos[1] | photos[2])
    assert sets["test"].sample_id(0) == "3458_O__3458_B"
    assert sets["test"].row(0).instruction == "Image needsTo be soften and sharpened"
