from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgie_lit.data.readers.gier import GIER
from mgie_lit.errors import DataError
from mgie_lit.testing.datasets import write_gier


def by_id(root: Path, split: str = "train") -> dict[str, Any]:
    dataset = GIER(split, root=root)
    return {dataset.sample_id(index): dataset[index] for index in range(len(dataset))}


def test_experts_and_amateurs_are_examples(datasets_dir: Path) -> None:
    text = (datasets_dir / "gier" / "splits" / "train_sess_3.json").read_text()
    assert "NaN" in text, "as pandas writes what is missing"
    examples = by_id(datasets_dir / "gier")
    assert len(examples) == 30
    assert [name for name in examples if name.startswith("train2_")] == [
        "train2_x2-expert0",
        "train2_x2-expert1",
        "train2_x2-amateur0",
        "train2_x2-amateur1",
        "train2_x2-amateur2",
    ]
    assert not any(name.startswith("train0_x0-amateur") for name in examples), "it has no amateur's summary"
    example = examples["train2_x2-amateur1"]
    assert example.instruction == "turn it upside down (2), said an amateur"
    assert (example.session_id, example.attributes["writer"]) == ("train2_train2", "amateur")
    assert [len(GIER(split, root=datasets_dir / "gier")) for split in ("val", "test")] == [17, 15]


def test_owners_spelling_of_operators_and_their_scope(datasets_dir: Path) -> None:
    examples = by_id(datasets_dir / "gier")
    told = {name.split("_")[0]: example.attributes for name, example in examples.items()}
    expected = {
        "train0": ("global", "brightness+gaussain_blur"),
        "train1": ("local", "inpaint_obj"),
        "train2": ("local", "black&white+color_bg"),
        "train3": ("mixed", "contrast+tint"),
        "train4": ("global", "lightness"),  # called local, but without a region
    }
    assert {name: (told[name]["scope"], told[name]["operators"]) for name in expected} == expected


def test_mask_joins_the_regions_of_local_edits(datasets_dir: Path) -> None:
    examples = by_id(datasets_dir / "gier")
    local, everywhere = examples["train1_x1-expert0"], examples["train2_x2-expert0"]
    inside = np.asarray(local.mask) == 255
    assert local.mask.size == local.source.size == (26, 20)
    assert 0.05 < inside.mean() < 0.5
    changed = np.abs(np.asarray(local.source, int) - np.asarray(local.target, int)).max(axis=-1) > 60
    assert changed[inside].mean() > 0.5 > 0.05 > changed[~inside].mean(), "the region lies where the picture was edited"
    assert np.asarray(everywhere.mask).min() == 255, "disc and background together are everything"
    assert examples["train0_x0-expert0"].mask is None
    assert examples["train3_x3-expert0"].mask is None, "one of its operators acts everywhere"


def test_sizes_may_differ(datasets_dir: Path) -> None:
    example = by_id(datasets_dir / "gier")["train0_x0-expert0"]
    assert (example.source.size, example.target.size) == ((24, 20), (18, 15))


def test_without_masks(tmp_path: Path) -> None:
    write_gier(tmp_path, num_pairs=2)
    for path in (tmp_path / "masks").iterdir():
        path.unlink()
    (tmp_path / "masks").rmdir()
    assert by_id(tmp_path)["train1_x1-expert0"].mask is None


@pytest.mark.faults
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[]", r"train1_x1-expert0 .*train1_train1_mask\.json: expected at least 2 masks; the file is damaged"),
        ('[{}, {"size": [1, 2], "counts": "9"}]', r"mask\.json, mask 1: expected runs over 1 x 2 = 2 pixels, got"),
    ],
)
def test_damaged_masks(tmp_path: Path, content: str, message: str) -> None:
    write_gier(tmp_path, num_pairs=2)
    (tmp_path / "masks" / "train1_train1_mask.json").write_text(content)
    with pytest.raises(DataError, match=message):
        by_id(tmp_path)


@pytest.mark.faults
@pytest.mark.parametrize("operator", [["crop"], {"crop": True}])
def test_operators_of_another_kind(tmp_path: Path, operator: object) -> None:
    write_gier(tmp_path, num_pairs=2)
    file = tmp_path / "splits" / "train_sess_3.json"
    entries = json.loads(file.read_text())
    file.write_text(json.dumps([entries[0], entries[1] | {"operator": operator}]))
    with pytest.raises(DataError, match=r"train_sess_3\.json, row 1: expected an object of operators under 'operator'"):
        GIER("train", root=tmp_path)


@pytest.mark.faults
def test_missing_annotations(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"data\.root: no val_sess_3\.json in .*#gier"):
        GIER("val", root=tmp_path)


def test_real_annotations(real_data: Path) -> None:
    sets = {split: GIER(split, root=real_data / "gier") for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in sets.items()} == {"train": 23898, "val": 3004, "test": 2969}
    names = {data.sample_id(index) for data in sets.values() for index in range(len(data))}
    assert len(names) == 29871
    writers = Counter(name.rpartition("-")[2].rstrip("0123456789") for name in names)
    assert writers == {"expert": 8115 + 1017 + 1011, "amateur": 15783 + 1987 + 1958}
    row = sets["val"].row(0)
    assert (row.sample_id, row.attributes["operators"]) == ("2vdko4_WeHiVL3-expert0", "color_bg")
    assert row.attributes["scope"] == "local"
